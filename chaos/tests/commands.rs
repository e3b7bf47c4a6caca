//! The built harness as a user meets it: what it says of a wrong command line and of a run that is not what it
//! was, the exit code, and that nothing is overwritten.

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
fn assert_one_line(args: &[&str], wanted: i32, says: &str) {
    let output = chaos(args);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(wanted), "{args:?}: {told}");
    let errors: Vec<&str> = told.lines().filter(|l| l.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{args:?}: {told}");
    assert!(told.trim_end().ends_with(errors[0]), "{args:?}: {told}");
    assert!(errors[0].contains(says), "{args:?}: {told}");
}

#[test]
fn a_wrong_command_line_is_one_line_and_64() {
    for (args, says) in [
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
        (&["replay"], "<FILE>"),
        (&["verify"], "<DIR>"),
    ] {
        assert_one_line(args, 64, says);
    }
}

#[test]
fn what_is_asked_for_is_no_error() {
    for args in [&["--help"][..], &["--version"], &["sim", "--help"]] {
        assert_eq!(code(args), Some(0), "{args:?}");
    }
}

#[test]
fn whoever_reads_no_more_of_what_is_said_ends_nothing() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut list = Command::new(env!("CARGO_BIN_EXE_chaos"));
    let list = list.arg("list").stdout(writer).output().unwrap();
    let told = String::from_utf8(list.stderr).unwrap();
    assert_eq!((list.status.code(), told.as_str()), (Some(0), ""));
}

#[test]
fn files_that_are_not_there_have_no_verdict() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().to_str().unwrap();
    assert_one_line(&["verify", "/nonexistent/run"], 4, "chaos run");
    assert_one_line(&["verify", empty], 4, "history.jsonl");
    assert_one_line(
        &["replay", "/nonexistent/schedule.json"],
        64,
        "schedule.json",
    );
}

#[test]
fn without_a_postgres_there_is_one_line_with_its_fix_and_no_verdict() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    // Nothing is started, so any program serves as the dispatcher.
    let output = Command::new(env!("CARGO_BIN_EXE_chaos"))
        .args(["run", "--postgres", "url", "--out"])
        .arg(&out)
        .env(
            "CHAOS_DATABASE_URL",
            "postgresql://nobody:secret@127.0.0.1:1/none",
        )
        .env("CHAOS_DISPATCHER_BIN", env!("CARGO_BIN_EXE_chaos"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(4));
    let told = String::from_utf8(output.stderr).unwrap();
    let error = told.lines().last().unwrap();
    assert!(
        error.starts_with("error: ") && error.contains("fix: "),
        "{told}"
    );
    assert!(!told.contains("secret"), "{told}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.lines().last().unwrap().starts_with("verdict=none "),
        "{said}"
    );
}

/// A run of a few seconds; nothing where this machine has no Postgres.
fn stored(out: &Path) -> Option<()> {
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
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    if told.contains("no Postgres is available") {
        eprintln!("skipped: a run from the command line: {told}");
        return None;
    }
    assert_eq!(output.status.code(), Some(0), "{told}");
    Some(())
}

fn edited(path: &Path, edit: impl Fn(&str) -> String) {
    let text = std::fs::read_to_string(path).unwrap();
    let changed = edit(&text);
    assert_ne!(changed, text, "nothing was changed");
    std::fs::write(path, changed).unwrap();
}

#[test]
fn a_stored_run_is_verified_never_overwritten_and_no_other_than_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    if stored(&run).is_none() {
        return;
    }
    let out = run.to_str().unwrap();
    let history = run.join("history.jsonl");
    let honest = std::fs::read_to_string(&history).unwrap();
    assert_eq!(code(&["verify", out]), Some(0));

    assert_one_line(&["run", "--out", out], 64, "never overwritten");
    assert_one_line(&["soak", "--out", out], 64, "never overwritten");
    assert_eq!(std::fs::read_to_string(&history).unwrap(), honest);

    // One byte of one line, then half of the last line.
    edited(&history, |text| {
        text.replacen("\"ordinal\":7", "\"ordinal\":8", 1)
    });
    assert_one_line(&["verify", out], 4, "edited or cut");
    std::fs::write(&history, &honest[..honest.len() - 20]).unwrap();
    assert_one_line(&["verify", out], 4, "cannot be read");
    std::fs::write(&history, &honest).unwrap();

    // A plan that its seed does not give is run all the same, and named so.
    let plan = dir.path().join("plan.json");
    std::fs::copy(run.join("schedule.json"), &plan).unwrap();
    edited(&plan, |text| {
        text.replacen("\"at_ms\": ", "\"at_ms\": 1", 1)
    });
    let again = dir.path().join("again");
    let replay = [
        "replay",
        plan.to_str().unwrap(),
        "--out",
        again.to_str().unwrap(),
    ];
    assert_one_line(&replay, 5, "another plan");
    edited(&run.join("schedule.json"), |text| text.to_owned() + "\n");
    assert_one_line(&["verify", out], 4, "schedule.json");
}
