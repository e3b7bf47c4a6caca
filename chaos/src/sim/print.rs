//! Prints a simulated run as text: one line per op with its time.
//!
//! Event ids and lease tokens are long and similar. The text names events by their ordinals and
//! tokens by their last digits.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::fault::{PlannedFault, When};
use super::schedule::SimSchedule;
use crate::history::op::Op;
use crate::history::transition::{Step, Transition};

/// Number of last characters that distinguish the tokens of a run.
const TOKEN_TAIL: usize = 4;

/// Returns the settings and faults of a schedule as text.
#[must_use]
pub fn schedule_text(schedule: &SimSchedule) -> String {
    let s = &schedule.settings;
    let mut text = format!(
        "seed {}: {} events, {} workers, {} receivers, storm {} ms\n\
         timeout {} ms, lease {} ms, poll {} ms, backoff {}..{} ms, {} attempts, {} abandoned, \
         {} in flight, {} per host\n",
        schedule.seed,
        schedule.events.len(),
        schedule.workers,
        schedule.receivers,
        schedule.storm_ms,
        s.http_timeout_ms,
        s.lease_ms,
        s.poll_ms,
        s.backoff_base_ms,
        s.backoff_cap_ms,
        s.max_attempts,
        s.max_abandoned,
        s.max_in_flight,
        schedule.per_host,
    );
    for fault in &schedule.faults {
        let _ = writeln!(text, "fault {}", planned_fault(fault));
    }
    text
}

fn planned_fault(fault: &PlannedFault) -> String {
    let when = match fault.on {
        When::At { ms, worker } => format!("at {ms} ms, w{worker}"),
        When::Pass { point, nth } => format!("at hit {nth} of {point}"),
    };
    format!("{when}: {:?}", fault.fault)
}

/// Returns the history as text, one line per op. Counts of rows are omitted.
#[must_use]
pub fn history_text(ops: &[(u64, Op)]) -> String {
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    let mut text = String::new();
    for ((t, op), seq) in ops.iter().zip(1_u64..) {
        if let Op::Accept(accepted) = op {
            let target = accepted.target.as_deref().unwrap_or_default();
            let ordinal = target.rsplit('/').next().unwrap_or_default();
            names.insert(accepted.id.clone(), format!("e{ordinal}"));
        }
        if matches!(op, Op::Census(_)) {
            continue;
        }
        let name = |id: &str| names.get(id).cloned().unwrap_or_else(|| id.to_owned());
        let _ =
            writeln!(text, "{seq:>5} {:>9}.{:03} ms  {}", t / 1_000, t % 1_000, summary(op, name));
    }
    text
}

fn summary(op: &Op, name: impl Fn(&str) -> String) -> String {
    match op {
        Op::RunStart(_) => "run begins".into(),
        Op::Phase(begin) => format!("phase {:?}", begin.phase).to_lowercase(),
        Op::Worker(seen) => format!("worker {} begins", seen.worker),
        Op::IngestInvoke(post) => format!("post #{} of e{} to {}", post.op, post.ordinal, post.via),
        Op::IngestOk(ok) => format!("post #{} of e{}: 202 {}", ok.op, ok.ordinal, name(&ok.id)),
        Op::IngestFail(end) => {
            format!("post #{} of e{}: fail, {}", end.op, end.ordinal, end.why)
        }
        Op::IngestInfo(end) => {
            format!("post #{} of e{}: info, {}", end.op, end.ordinal, end.why)
        }
        Op::RecvBegin(begin) => format!(
            "request {} of {} attempt {}: {}, {}",
            begin.req,
            name(begin.id.as_deref().unwrap_or_default()),
            begin.attempt.unwrap_or(0),
            begin.sig,
            begin.scripted.as_ref().map_or("", |s| &s.what),
        ),
        Op::RecvEnd(end) => format!(
            "request {} ends: {}{}",
            end.req,
            end.how,
            end.status.map_or(String::new(), |status| format!(" {status}")),
        ),
        Op::WorkerLog(log) => format!("log of {}: {} lines", log.worker, log.lines),
        Op::WorkerExit(exit) => format!("worker {} has exited", exit.worker),
        Op::FaultStart(start) => format!(
            "FAULT {} {} at {} ({}), open {:?}",
            start.fault, start.f, start.target, start.why, start.open
        ),
        Op::FaultEffect(effect) => format!("fault {} has taken effect", effect.fault),
        Op::FaultEnd(end) => format!("fault {} is healed", end.fault),
        Op::FaultSkip(skip) => format!("fault {} is skipped: {}", skip.f, skip.why),
        Op::State(state) => format!(
            "state of e{}: {} {:?} {} after {} attempts",
            state.ordinal,
            state.http,
            state.status.as_deref().unwrap_or("-"),
            state.reason.as_deref().unwrap_or("-"),
            state.attempt_count.unwrap_or(0),
        ),
        Op::Fenced(fenced) => format!(
            "fenced {} token {}{}",
            name(&fenced.id),
            tail(&fenced.token),
            if fenced.already { ", already settled" } else { "" }
        ),
        Op::Census(census) => format!("{census:?}"),
        other => match other.transition() {
            Some((step, transition)) => transition_summary(step, transition, name),
            None => String::new(),
        },
    }
}

fn transition_summary(step: Step, op: &Transition, name: impl Fn(&str) -> String) -> String {
    let mut line = format!("{step:?} {} attempt {}", name(&op.id), op.attempt).to_lowercase();
    if let Some(token) = &op.token {
        let _ = write!(line, " token {}", tail(token));
    }
    if let Some(held) = op.held.as_ref().filter(|held| Some(*held) != op.token.as_ref()) {
        let _ = write!(line, " held {}", tail(held));
    }
    if let Some(holder) = &op.holder {
        let _ = write!(line, " by {holder}");
    }
    if let Some(outcome) = &op.outcome {
        let _ = write!(line, ": {outcome}");
    }
    let after = &op.after;
    let _ = write!(
        line,
        " -> {}{} a{} f{} b{}",
        after.status,
        after.reason.as_ref().map_or(String::new(), |r| format!(" ({r})")),
        after.attempt_count,
        after.failure_count,
        after.abandon_count
    );
    if let Some(due_us) = op.due_us.filter(|_| step != Step::Claim) {
        let _ = write!(line, ", due in {} ms", (due_us - op.now_us) / 1_000);
    }
    line
}

fn tail(token: &str) -> &str {
    &token[token.len().saturating_sub(TOKEN_TAIL)..]
}
