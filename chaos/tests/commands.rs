//! The built harness from the command line: exit codes, error lines, and stored runs.
//!
//! These tests start the program, because a unit test sees neither its exit code nor its streams.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::{Command, Output};

fn chaos(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chaos"));
    command.args(args).env_remove("CHAOS_DATABASE_URL");
    command.output().unwrap()
}

fn code(args: &[&str]) -> Option<i32> {
    chaos(args).status.code()
}

#[track_caller]
fn assert_one_error(args: &[&str], exit_code: i32, part: &str) {
    let output = chaos(args);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(exit_code), "{args:?}: {stderr}");
    let is_error = |line: &&str| line.starts_with("error: ");
    let errors: Vec<&str> = stderr.lines().filter(is_error).collect();
    assert_eq!(errors.len(), 1, "{args:?}: {stderr}");
    assert!(stderr.trim_end().ends_with(errors[0]), "{args:?}: {stderr}");
    assert!(errors[0].contains(part), "{args:?}: {stderr}");
}

#[test]
fn wrong_command_line_gives_one_line_and_exit_code_64() {
    for (args, part) in [
        (&["frobnicate"][..], "frobnicate"),
        (&["--frobnicate"], "--frobnicate"),
        (&["run", "--profile", "nope"], "chaotic"),
        (&["run", "--seed", "0xg"], "decimal or 0x"),
        (&["run", "--events", "0"], "1..="),
        (&["run", "--duration", "1h"], "ms, s or m"),
        (&["run", "--driver", "cow"], "container"),
        (&["run", "--postgres", "cow"], "machine"),
        (&["run", "--postgres", "url"], "CHAOS_DATABASE_URL"),
        (&["soak", "--profile", "nope"], "chaotic"),
        (&["sim", "--seeds", "0"], "1.."),
        (&["sim", "--events", "0"], "1..="),
        (&["sim", "--workers", "9"], "1..="),
        (&["sim", "--mutants", "0"], "1.."),
        (&["sim", "--mutant", "nope"], "--mutants 1"),
        (&["sim", "--seeds", "5", "--duration", "3s"], "--duration"),
        (&["replay"], "<PATH>"),
        (&["verify"], "<DIR>"),
    ] {
        assert_one_error(args, 64, part);
    }
}

#[test]
fn help_and_version_exit_with_0() {
    for args in [&["--help"][..], &["--version"], &["sim", "--help"]] {
        assert_eq!(code(args), Some(0), "{args:?}");
    }
}

#[test]
fn closed_stdout_does_not_fail_the_command() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut list = Command::new(env!("CARGO_BIN_EXE_chaos"));
    let list = list.arg("list").stdout(writer).output().unwrap();
    let stderr = String::from_utf8(list.stderr).unwrap();
    assert_eq!((list.status.code(), stderr.as_str()), (Some(0), ""));
}

#[test]
fn missing_files_give_no_verdict() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().to_str().unwrap();
    assert_one_error(&["verify", "/nonexistent/run"], 4, "chaos run");
    assert_one_error(&["verify", empty], 4, "history.jsonl");
    assert_one_error(&["replay", "/nonexistent/schedule.json"], 64, "schedule.json");
    assert_one_error(&["replay", empty], 64, "schedule.json");
}

// A run prints the name of its directory, not of its schedule, so users pass the directory.
#[test]
fn replay_of_a_directory_runs_the_schedule_in_it() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/bugbase/no_loss-0x13f");
    let file = format!("{directory}/schedule.json");
    let (of_directory, of_file) = (chaos(&["replay", directory]), chaos(&["replay", &file]));
    assert_eq!(of_directory.status.code(), Some(0));
    assert_eq!(of_directory.stdout, of_file.stdout);
    let stdout = String::from_utf8(of_directory.stdout).unwrap();
    assert!(stdout.contains("no_loss"), "{stdout}");
}

#[test]
fn unreachable_postgres_gives_a_fix_and_no_verdict() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    // The run fails before it starts a dispatcher, so any program serves as one.
    let output = Command::new(env!("CARGO_BIN_EXE_chaos"))
        .args(["run", "--postgres", "url", "--out"])
        .arg(&out)
        .env("CHAOS_DATABASE_URL", "postgresql://nobody:secret@127.0.0.1:1/none")
        .env("CHAOS_DISPATCHER_BIN", env!("CARGO_BIN_EXE_chaos"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(4));
    let stderr = String::from_utf8(output.stderr).unwrap();
    let error = stderr.lines().last().unwrap();
    assert!(error.starts_with("error: ") && error.contains("fix: "), "{stderr}");
    assert!(!stderr.contains("secret"), "{stderr}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    let last = stdout.lines().last().unwrap();
    assert!(last.starts_with("verdict=none "), "{stdout}");
}

/// Stores a run of a few seconds. Returns `None` if this machine has no Postgres.
fn store_run(out: &Path) -> Option<()> {
    let out = out.to_str().unwrap();
    let run = [
        "run",
        "--profile",
        "dead-letters",
        "--events",
        "20",
        "--duration",
        "1s",
        "--seed",
        "0xc0",
        "--out",
        out,
    ];
    let output = chaos(&run);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    if stderr.contains("no Postgres is available") {
        eprintln!("skipped: a run from the command line: {stderr}");
        return None;
    }
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    Some(())
}

fn edit(path: &Path, edit: impl Fn(&str) -> String) {
    let text = std::fs::read_to_string(path).unwrap();
    let changed = edit(&text);
    assert_ne!(changed, text, "nothing was changed");
    std::fs::write(path, changed).unwrap();
}

#[test]
fn stored_run_is_verified_and_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    if store_run(&run).is_none() {
        return;
    }
    let out = run.to_str().unwrap();
    let history = run.join("history.jsonl");
    let honest = std::fs::read_to_string(&history).unwrap();
    assert_eq!(code(&["verify", out]), Some(0));

    assert_one_error(&["run", "--out", out], 64, "never overwritten");
    assert_one_error(&["soak", "--out", out], 64, "never overwritten");
    assert_eq!(std::fs::read_to_string(&history).unwrap(), honest);

    // One byte of one line, then half of the last line.
    edit(&history, |text| text.replacen("\"ordinal\":7", "\"ordinal\":8", 1));
    assert_one_error(&["verify", out], 4, "edited or cut");
    std::fs::write(&history, &honest[..honest.len() - 20]).unwrap();
    assert_one_error(&["verify", out], 4, "edited or cut");
    std::fs::write(&history, &honest).unwrap();

    // An edited schedule runs, and exit code 5 reports the difference from its seed.
    let edited = dir.path().join("edited");
    std::fs::create_dir(&edited).unwrap();
    let schedule = edited.join("schedule.json");
    std::fs::copy(run.join("schedule.json"), &schedule).unwrap();
    edit(&schedule, |text| text.replacen("\"at_ms\": ", "\"at_ms\": 1", 1));
    let again = dir.path().join("again");
    let replay = ["replay", edited.to_str().unwrap(), "--out", again.to_str().unwrap()];
    assert_one_error(&replay, 5, "another schedule");
    edit(&run.join("schedule.json"), |text| text.to_owned() + "\n");
    assert_one_error(&["verify", out], 4, "schedule.json");
}
