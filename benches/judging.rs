//! What recording and judging a run cost, by the number of its events: `verify` of a stored run in a process of its own (time
//! and peak RSS), and ops a second of the recorder. `cargo bench -p benches --bench judging`.
//!
//! Both must be linear. The aim is a run of 10,000 events judged within 10 s and 500 MB, and a recorder that is never what a
//! run waits for.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use benches::{processes, told};
use chaos::command::{VerifyArgs, verify};
use chaos::recorder::Recorder;
use tokio::time::Instant;

/// Events of the runs that are judged.
const EVENTS: &[u32] = &[1_000, 3_000, 10_000, 30_000];
/// Events of the run that is recorded.
const RECORDED: u32 = 3_000;
/// What tells the process that it is the one that judges, and where.
const JUDGE: &str = "BENCH_JUDGE_DIR";

fn main() -> ExitCode {
    if let Some(dir) = std::env::var_os(JUDGE) {
        return ExitCode::from(judge(PathBuf::from(dir)));
    }
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn measure() -> anyhow::Result<()> {
    // `--test` is what `cargo test --benches` passes: the smallest size shows that it works.
    let sizes = if std::env::args().any(|arg| arg == "--test") {
        &EVENTS[..1]
    } else {
        EVENTS
    };
    say("events     lines    MiB of history   verify ms   us a line   peak RSS MiB");
    for events in sizes {
        let dir = tempfile::tempdir()?;
        let lines = told::store(*events, dir.path())?;
        let bytes = std::fs::metadata(dir.path().join("history.jsonl"))?.len();
        let (took_ms, rss_mib) = judge_apart(dir.path())?;
        let line_us = took_ms * 1_000.0 / lines as f64;
        let mib = bytes as f64 / f64::from(1 << 20);
        say(&format!(
            "{events:>6} {lines:>9} {mib:>17.1} {took_ms:>11.0} {line_us:>11.2} {rss_mib:>14.0}"
        ));
    }
    record()
}

/// In a process of its own: its peak holds nothing of how the run was made up.
fn judge_apart(dir: &Path) -> anyhow::Result<(f64, f64)> {
    let output = Command::new(std::env::current_exe()?)
        .env(JUDGE, dir)
        .output()?;
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    anyhow::ensure!(
        output.status.success(),
        "{told}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let last = told.lines().last().unwrap_or_default();
    let mut figures = last.split(' ').map(str::parse::<f64>);
    match (figures.next(), figures.next()) {
        (Some(Ok(took_ms)), Some(Ok(rss_mib))) => Ok((took_ms, rss_mib)),
        _ => anyhow::bail!("the judging process said {last:?}"),
    }
}

fn judge(dir: PathBuf) -> u8 {
    let began = Instant::now();
    let code = verify(&VerifyArgs { dir });
    let took_ms = began.elapsed().as_secs_f64() * 1_000.0;
    let rss_mib = processes::rss_peak_mib(std::process::id());
    say(&format!("{took_ms} {rss_mib}"));
    code
}

fn record() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let ops = told::ops(&told::schedule(RECORDED));
    let lines = ops.len();
    let recorder = Recorder::create(&dir.path().join("history.jsonl"))?;
    let began = Instant::now();
    for (_, op) in ops {
        recorder.record(op);
    }
    let rate = lines as f64 / began.elapsed().as_secs_f64();
    let began = Instant::now();
    let history = recorder.history()?;
    let whole_ms = began.elapsed().as_secs_f64() * 1_000.0;
    anyhow::ensure!(history.entries().len() == lines, "lines are missing");
    say(&format!(
        "recorder: {lines} ops, {rate:.0} a second, each flushed; the history taken from it in {whole_ms:.0} ms"
    ));
    Ok(())
}

fn say(line: &str) {
    // Nobody to tell is no reason to stop.
    let _ = writeln!(std::io::stdout(), "{line}");
}
