//! After each fault, deliveries come again, or there is nothing left to deliver.
//!
//! The time is from the fault's end to the next whole 2xx of an acknowledged event. The bound is generous:
//! a lease, the look for expired ones, the deadline and the longest backoff; the figures are in the proof.

use std::collections::BTreeMap;

use super::backoff::{QUEUE_SLACK_US, RECOVERY_SLACK_US};
use super::{Checker, Examination, Kind, Verdict};
use crate::history::facts::Facts;
use crate::history::op::Section;
use crate::profile::Settings;

/// The register's entry.
pub const CHECKER: Checker = Checker {
    name: "recovery",
    invariant: "after each fault, deliveries come again soon",
    kind: Kind::Liveness,
    check,
};

/// Times from the end of each fault of a kind to the next delivery, in microseconds; none for a fault
/// after which nothing was delivered any more, nor had to be.
#[must_use]
pub fn times<'f>(facts: &'f Facts<'_>) -> BTreeMap<&'f str, Vec<u64>> {
    let mut times: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for (kind, _, took_us) in recoveries(facts) {
        times.entry(kind).or_default().push(took_us);
    }
    times
}

fn recoveries<'f>(facts: &'f Facts<'_>) -> Vec<(&'f str, u64, u64)> {
    let of_main = facts
        .accepted()
        .filter(|(_, event)| event.section() == Section::Main);
    let successes = of_main.flat_map(|(_, event)| event.successes());
    let mut delivered: Vec<u64> = successes.map(|receipt| receipt.end_us()).collect();
    delivered.sort_unstable();
    let mut found = Vec::new();
    for fault in &facts.faults {
        let Some(end_us) = fault.end_us else { continue };
        let next = delivered.partition_point(|t| *t < end_us);
        // The last delivery before the end of the run is never missing while one is due: that is liveness.
        if let Some(t) = delivered.get(next) {
            found.push((fault.name(), fault.start.seq, t - end_us));
        }
    }
    found
}

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    let settings = facts
        .start
        .and_then(|start| start.sections.get(&Section::Main));
    let bound_us = settings.map_or(u64::MAX, bound_us);
    let mut longest_us = 0;
    for (kind, seq, took_us) in recoveries(facts) {
        examination.saw_one();
        longest_us = longest_us.max(took_us);
        if took_us > bound_us {
            let what = format!(
                "{} ms passed between a {kind} and the next delivery",
                took_us / 1_000
            );
            examination.broken(what, [seq]);
        }
    }
    let note = format!("at most {} ms to the next delivery", longest_us / 1_000);
    examination.verdict("nothing was delivered after a fault", note)
}

fn bound_us(settings: &Settings) -> u64 {
    let waits_ms = settings.lease_ms + settings.http_timeout_ms + settings.backoff_cap_ms;
    waits_ms * 1_000 + RECOVERY_SLACK_US + 2 * QUEUE_SLACK_US
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::sample::{KILL, SECOND, Sample};
    use crate::history::op::Op;

    #[test]
    fn a_delivery_soon_after_the_fault_is_a_recovery() {
        let history = Sample::default().history();
        let facts = Facts::of(&history);
        assert!(check(&facts).is_valid());
        let took = times(&facts)["worker.kill"][0];
        assert_eq!(took, 2 * SECOND + 1_000 - SECOND / 2);
    }

    #[test]
    fn a_long_silence_after_a_fault_is_a_violation() {
        let late = KILL + 60 * SECOND;
        let history = Sample::default().edit(|t, op| match op {
            Op::RecvBegin(_) | Op::RecvEnd(_) if *t > KILL + SECOND => *t += late,
            _ => {}
        });
        assert!(check(&Facts::of(&history.history())).is_invalid());
    }

    #[test]
    fn a_run_without_faults_is_unknown() {
        let history = Sample::default()
            .without(|op| op.source() == "fault")
            .history();
        assert_eq!(check(&Facts::of(&history)).word(), "unknown");
    }
}
