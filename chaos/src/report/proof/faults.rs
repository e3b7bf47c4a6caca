//! The part of the proof about faults: their effects, and the recovery of the system.

use std::collections::BTreeMap;

use super::super::text::{line, seconds};
use crate::checker::recovery::{self, Rate};
use crate::fault::{Family, REAL_FAMILIES};
use crate::history::facts::{Facts, FaultFacts};

/// Maximum number of requests that are named per fault.
const HITS_SHOWN_MAX: usize = 6;
pub(super) fn text(text: &mut String, facts: &Facts<'_>) {
    line(
        text,
        "\nfaults: kind, target, observed effect, and the open requests that the fault ended",
    );
    let requests: BTreeMap<&str, String> = facts
        .receipts()
        .map(|receipt| {
            let op = receipt.begin.op;
            let ordinal = op.ordinal.map_or("?".into(), |ordinal| ordinal.to_string());
            let attempt = op.attempt.map_or("?".into(), |attempt| attempt.to_string());
            (op.req.as_str(), format!("event {ordinal} attempt {attempt}"))
        })
        .collect();
    for fault in &facts.faults {
        line(text, &fault_line(fault, &requests));
    }
    if facts.faults.is_empty() {
        line(text, "  none in this plan");
    }
    recoveries(text, facts);
}

/// The time until the next delivery, and until nine tenths of the baseline rate, by kind.
fn recoveries(text: &mut String, facts: &Facts<'_>) {
    let by_kind = recovery::recoveries(facts);
    if by_kind.is_empty() {
        return;
    }
    line(
        text,
        "\nrecovery: from the end of a fault to the next delivery, and to nine tenths of the baseline rate",
    );
    for (kind, recoveries) in by_kind {
        let next = recoveries.iter().filter_map(|recovery| recovery.next_us);
        let back = recoveries.iter().filter_map(|recovery| match recovery.rate {
            Some(Rate::Back(took_us)) => Some(took_us),
            _ => None,
        });
        let (next, back) = (spread(next.collect()), spread(back.collect()));
        let faults = recoveries.len();
        line(text, &format!("  {kind:<24} {faults} healed; next delivery {next}; rate {back}"));
    }
    line(
        text,
        "  a rate is stated only if posting continued and no other fault started before it was back",
    );
}

fn spread(mut times: Vec<u64>) -> String {
    times.sort_unstable();
    let Some(longest) = times.last() else {
        return "not stated".to_owned();
    };
    let (median, longest) = (seconds(times[times.len() / 2]), seconds(*longest));
    format!("n {} p50 {median} max {longest}", times.len())
}

/// One line for each family without a fault in the plan.
pub(super) fn not_planned(facts: &Facts<'_>) -> impl Iterator<Item = String> {
    let planned = facts.start.map(|start| &start.faults_planned);
    let has = move |family: Family| {
        planned.is_some_and(|planned| planned.values().any(|kind| kind.family == family))
    };
    let missing = REAL_FAMILIES.iter().filter(move |(family, _)| !has(*family));
    missing.map(|(_, what)| format!("faults of {what}: this run has none"))
}

fn fault_line(fault: &FaultFacts<'_>, requests: &BTreeMap<&str, String>) -> String {
    let (start, effect) = (&fault.start, fault.effect);
    let hit = effect.map_or(&[][..], |at| &at.op.hit[..]);
    let named = hit.iter().take(HITS_SHOWN_MAX).filter_map(|req| requests.get(req.as_str()));
    let named: Vec<&str> = named.map(String::as_str).collect();
    let ended = match hit.len() {
        0 => String::new(),
        ended if ended > HITS_SHOWN_MAX => format!(" ({}, …)", named.join(", ")),
        _ => format!(" ({})", named.join(", ")),
    };
    let back = fault.end_us.map_or("never healed".to_owned(), |end| {
        format!("healed after {}", seconds(end.saturating_sub(start.t)))
    });
    let observed = effect.and_then(|at| at.op.observed.as_deref());
    let observed = match observed {
        Some(observed) => format!("; {observed}"),
        None if fault.is_effective() => String::new(),
        None => "; no effect was observed".to_owned(),
    };
    format!(
        "  #{} {} {} at {}: {} requests open, {} ended by it{ended}{observed}; {back}",
        start.op.fault,
        start.op.f,
        start.op.target,
        seconds(start.t),
        start.op.open.len(),
        hit.len(),
    )
}
