//! The part of the proof that lists everything that the run does not prove, one sentence each.

use super::super::context::Context;
use super::super::judged::Judged;
use super::faults;
use crate::checker::{self, Need, NotAsked, Verdict};
use crate::history::facts::Facts;

/// Properties that a run of this tier cannot prove.
const NEVER_PROVEN: &[&str] = &[
    "power loss: a kill keeps the page cache, so the run does not prove that fsync works",
    "wrong clocks of workers and receivers, and disk faults other than a full disk: this tier has none",
    "the order of events: the dispatcher does not promise it",
    "the same interleaving on the next run: the seed repeats the schedule, not the timing",
];

/// Returns the unproven parts of this run first, then those of each run.
pub(super) fn sentences(judged: &Judged, context: &Context, facts: &Facts<'_>) -> Vec<String> {
    let mut sentences: Vec<String> = undecided(judged).collect();
    let skipped = context.skipped.iter();
    sentences.extend(skipped.map(|part| format!("skipped: {part}")));
    let skipped = facts.skipped.iter();
    sentences.extend(skipped.map(|(fault, why)| format!("skipped: fault {fault}: {why}")));
    sentences.extend(without_effect(facts));
    sentences.extend(not_asked(facts, context));
    sentences.extend(faults::not_planned(facts));
    sentences.extend(NEVER_PROVEN.iter().map(|text| (*text).to_owned()));
    sentences
}

/// The checkers whose verdict is unknown.
fn undecided(judged: &Judged) -> impl Iterator<Item = String> {
    let findings = judged.findings.iter();
    findings.filter_map(|finding| match &finding.verdict {
        Verdict::Unknown { why, .. } => {
            Some(format!("unknown: checker {}: {why}", finding.checker))
        }
        _ => None,
    })
}

fn without_effect(facts: &Facts<'_>) -> impl Iterator<Item = String> {
    let faults = facts.faults.iter();
    let faults = faults.filter(|fault| !fault.is_effective());
    faults.map(|fault| {
        let op = fault.start.op;
        format!("no effect: fault #{} {} on {}", op.fault, op.f, op.target)
    })
}

/// The checkers that are not asked, each with the reason, and those without an audit in one
/// sentence.
fn not_asked(facts: &Facts<'_>, context: &Context) -> Vec<String> {
    let (audit, others): (Vec<NotAsked>, Vec<NotAsked>) = checker::not_asked(facts)
        .into_iter()
        .partition(|not_asked| not_asked.missing == Some(Need::Audit));
    let others = others.iter();
    let mut sentences: Vec<String> = others
        .map(|NotAsked { checker, missing }| match missing {
            Some(need) => format!("not asked: checker {checker}: the run has no {need}"),
            None => format!("not asked: checker {checker}: this schedule does not exercise it"),
        })
        .collect();
    let audit: Vec<&str> = audit.iter().map(|not_asked| not_asked.checker).collect();
    if !audit.is_empty() {
        let reason = match &context.audit_missing {
            Some(reason) => format!("the run has no audit: {reason}"),
            None => "the history contains no transition".to_owned(),
        };
        let names = audit.join(", ");
        sentences.push(format!("not asked: checkers {names}: {reason}"));
    }
    sentences
}
