//! `cargo bench -p benches --bench judging`: time and peak RSS of `verify` for a stored run, by the
//! number of its events, and the ops per second of the recorder.
//!
//! Both must be linear. The goal for 10,000 events is 10 s and 500 MB. The recorder must be faster
//! than any run.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use benches::figures::print_line;
use benches::{processes, synthetic};
use chaos::command::{VerifyArgs, verify};
use chaos::recorder::Recorder;
use tokio::time::Instant;

/// Numbers of events of the judged runs.
const EVENTS: &[u32] = &[1_000, 3_000, 10_000, 30_000];
/// Number of events of the recorded run.
const RECORDED: u32 = 3_000;
/// Variable that makes a process judge the run in the directory that it names.
const JUDGE_VARIABLE: &str = "BENCH_JUDGE_DIR";

fn main() -> ExitCode {
    if let Some(dir) = std::env::var_os(JUDGE_VARIABLE) {
        return ExitCode::from(judge(PathBuf::from(dir)));
    }
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_line(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn measure() -> anyhow::Result<()> {
    // `cargo test --benches` passes `--test`. Then the smallest size suffices.
    let sizes = if std::env::args().any(|arg| arg == "--test") { &EVENTS[..1] } else { EVENTS };
    print_line("events     lines    MiB of history   verify ms   us per line   peak RSS MiB");
    for events in sizes {
        let dir = tempfile::tempdir()?;
        let lines = synthetic::store(*events, dir.path())?;
        let bytes = std::fs::metadata(dir.path().join("history.jsonl"))?.len();
        let (took_ms, rss_mib) = judge_in_process(dir.path())?;
        let line_us = took_ms * 1_000.0 / lines as f64;
        let mib = bytes as f64 / f64::from(1 << 20);
        print_line(&format!(
            "{events:>6} {lines:>9} {mib:>17.1} {took_ms:>11.0} {line_us:>11.2} {rss_mib:>14.0}"
        ));
    }
    record()
}

/// Judges in a separate process, so that the peak does not include the creation of the run.
fn judge_in_process(dir: &Path) -> anyhow::Result<(f64, f64)> {
    let output = Command::new(std::env::current_exe()?).env(JUDGE_VARIABLE, dir).output()?;
    let output_text = String::from_utf8_lossy(&output.stdout).into_owned();
    anyhow::ensure!(
        output.status.success(),
        "{output_text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let last = output_text.lines().last().unwrap_or_default();
    let mut figures = last.split(' ').map(str::parse::<f64>);
    match (figures.next(), figures.next()) {
        (Some(Ok(took_ms)), Some(Ok(rss_mib))) => Ok((took_ms, rss_mib)),
        _ => anyhow::bail!("the judging process printed {last:?}"),
    }
}

fn judge(dir: PathBuf) -> u8 {
    let began = Instant::now();
    let code = verify(&VerifyArgs { dir });
    let took_ms = began.elapsed().as_secs_f64() * 1_000.0;
    let rss_mib = processes::rss_peak_mib(std::process::id());
    print_line(&format!("{took_ms} {rss_mib}"));
    code
}

fn record() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let ops = synthetic::ops(&synthetic::schedule(RECORDED));
    let lines = ops.len();
    let recorder = Recorder::create(&dir.path().join("history.jsonl"))?;
    let began = Instant::now();
    for (_, op) in ops {
        recorder.record(op);
    }
    let rate = lines as f64 / began.elapsed().as_secs_f64();
    let began = Instant::now();
    let history = recorder.history()?;
    let read_ms = began.elapsed().as_secs_f64() * 1_000.0;
    anyhow::ensure!(history.entries().len() == lines, "the history lacks lines");
    print_line(&format!(
        "recorder: {lines} ops, {rate:.0} per second, each flushed; history read in {read_ms:.0} ms"
    ));
    Ok(())
}
