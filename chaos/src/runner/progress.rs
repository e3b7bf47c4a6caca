//! The phases of a run: each begin goes to the history and, with the counts, to stderr.

use std::time::Duration;

use tokio::time::interval;

use crate::history::op::{Op, Phase, PhaseBegin};
use crate::nemesis::Schedule;
use crate::recorder::Recorder;

/// Interval between two lines with counts.
const COUNTS_INTERVAL: Duration = Duration::from_secs(5);

/// Records and prints the begin of a phase.
pub(super) fn begin_phase(recorder: &Recorder, phase: Phase, bound: Option<Duration>) {
    let bound_us = bound.map(as_us);
    recorder.record(Op::Phase(PhaseBegin { phase, bound_us }));
    let name = match phase {
        Phase::Baseline => "baseline without faults",
        Phase::Storm => "storm",
        Phase::Heal => "healing all faults",
        Phase::Drain => "drain",
        Phase::FinalReads => "final reads",
        Phase::End => return,
    };
    let bound =
        bound.map_or(String::new(), |bound| format!(", at most {} s", bound.as_secs_f64().ceil()));
    print(recorder, &format!("{name}{bound}"));
}

/// Prints one line of progress with its time.
pub(super) fn print(recorder: &Recorder, line: &str) {
    let seconds = recorder.now_us() / 1_000_000;
    eprintln!("{seconds:>4} s: {line}");
}

/// Prints the counts of the run every five seconds until the future is dropped.
pub(super) async fn print_counts(recorder: &Recorder, schedule: &Schedule) {
    let mut ticks = interval(COUNTS_INTERVAL);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let (accepted, received) = recorder.progress();
        let (planned, open) = (schedule.posts(), recorder.open_requests().len());
        let line =
            format!("{accepted} of {planned} accepted, {received} received, {open} requests open");
        print(recorder, &line);
    }
}

/// Returns a duration in microseconds, the unit of the history.
pub(super) fn as_us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
