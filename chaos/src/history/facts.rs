//! The facts of a history: its ops by event, request, fault and row, collected in one pass.
//!
//! Checkers share these facts. Nothing here judges them.

mod faults;
mod receipt;
mod rows;

use std::collections::BTreeMap;

use super::op::{
    Acknowledged, BoundReached, ClockWarning, Health, Invoke, NotAcknowledged, Op, Phase,
    Readiness, RecvBegin, RecvEnd, RunStart, Section, Sessions, State, Usage, WorkerExit,
    WorkerLog, WorkerSeen,
};
use super::{Entry, History};
use crate::profile::Settings;
use receipt::at;

pub use faults::FaultFacts;
pub use receipt::{At, ReceiptFacts};
pub use rows::{RowFacts, StepAt, StoreFacts};

/// Minimum size of a large payload, in bytes.
pub const LARGE_BYTES_MIN: usize = 256 * 1024;

/// The ops of one planned event.
#[derive(Clone, Debug, Default)]
pub struct EventFacts<'h> {
    /// Every post, in order.
    pub invokes: Vec<At<'h, Invoke>>,
    /// Every 202, in order.
    pub acknowledged: Vec<At<'h, Acknowledged>>,
    /// Posts that stored nothing for certain.
    pub failed: Vec<At<'h, NotAcknowledged>>,
    /// Posts that may have stored the event.
    pub unknown: Vec<At<'h, NotAcknowledged>>,
    /// Every request with this ordinal, in order of begin.
    pub receipts: Vec<ReceiptFacts<'h>>,
    /// The final read.
    pub state: Option<At<'h, State>>,
}

impl<'h> EventFacts<'h> {
    /// Returns the id in the first 202.
    pub fn id(&self) -> Option<&'h str> {
        self.acknowledged.first().map(|at| at.op.id.as_str())
    }

    /// Returns the idempotency key of the posts.
    pub fn key(&self) -> Option<&'h str> {
        self.invokes.first().and_then(|at| at.op.key.as_deref())
    }

    /// Returns true if the payload is so large that the dispatcher fetches it after its claim.
    #[must_use]
    pub fn is_large(&self) -> bool {
        self.invokes.iter().any(|invoke| invoke.op.bytes >= LARGE_BYTES_MIN)
    }

    /// Returns the section of the event.
    pub fn section(&self) -> Section {
        self.invokes.first().map_or(Section::Main, |at| at.op.section)
    }

    /// Returns the requests that got a complete 2xx.
    pub fn successes(&self) -> impl Iterator<Item = &ReceiptFacts<'h>> {
        self.receipts.iter().filter(|receipt| receipt.is_success())
    }

    /// Returns true if the final read lists the attempt of this request with the outcome of a settle.
    pub fn is_called_settled(&self, receipt: &ReceiptFacts<'_>) -> bool {
        let rows = self.state.map_or(&[][..], |at| &at.op.attempts[..]);
        let row = rows.iter().find(|row| Some(row.number) == receipt.begin.op.attempt);
        row.is_some_and(|row| row.outcome != "abandoned")
    }

    /// Returns true if the final read lists the attempt of this request as delivered.
    pub fn is_called_delivered(&self, receipt: &ReceiptFacts<'_>) -> bool {
        self.is_called(receipt, "delivered")
    }

    /// Returns true if the final read lists the attempt of this request as abandoned.
    pub fn is_called_abandoned(&self, receipt: &ReceiptFacts<'_>) -> bool {
        self.is_called(receipt, "abandoned")
    }

    fn is_called(&self, receipt: &ReceiptFacts<'_>, outcome: &str) -> bool {
        let rows = self.state.map_or(&[][..], |at| &at.op.attempts[..]);
        rows.iter()
            .any(|row| Some(row.number) == receipt.begin.op.attempt && row.outcome == outcome)
    }

    /// Returns the status in the final read.
    pub fn status(&self) -> Option<&'h str> {
        self.state.and_then(|at| at.op.status.as_deref())
    }
}

/// The ops of a history by subject.
#[derive(Clone, Debug, Default)]
pub struct Facts<'h> {
    /// The parts of the plan that checkers need.
    pub start: Option<&'h RunStart>,
    /// Every planned event that was posted or received, by ordinal.
    pub events: BTreeMap<u64, EventFacts<'h>>,
    /// Requests that carry no ordinal.
    pub strays: Vec<ReceiptFacts<'h>>,
    /// Every fault, in order of request.
    pub faults: Vec<FaultFacts<'h>>,
    /// The parts of the run that were cut off at their bounds.
    pub bounds_reached: Vec<At<'h, BoundReached>>,
    /// Faults of the plan that were not injected, with the reason.
    pub skipped: Vec<(&'h str, &'h str)>,
    /// Health requests of clients.
    pub health: Vec<At<'h, Health>>,
    /// Starts and readiness of workers.
    pub workers: Vec<At<'h, WorkerSeen>>,
    /// The changes of the response to `GET /readyz`, by worker.
    pub readiness: BTreeMap<&'h str, Vec<At<'h, Readiness>>>,
    /// The warnings of workers that the clocks differ.
    pub clock_warnings: Vec<At<'h, ClockWarning>>,
    /// The changes of the number of database sessions, by section.
    pub sessions: BTreeMap<Section, Vec<At<'h, Sessions>>>,
    /// The changes of the resources of each worker process, by worker.
    pub usage: BTreeMap<&'h str, Vec<At<'h, Usage>>>,
    /// Panics and errors in the logs of workers.
    pub logs: Vec<At<'h, WorkerLog>>,
    /// Exits of stopped workers.
    pub exits: Vec<At<'h, WorkerExit>>,
    /// The transitions of each event, by id.
    pub rows: BTreeMap<&'h str, RowFacts<'h>>,
    /// True if the transitions of the store were recorded.
    pub has_audit: bool,
    /// Other observations of the store.
    pub store: StoreFacts<'h>,
    /// Begin and bound of each phase, in microseconds.
    pub phases: BTreeMap<Phase, (u64, Option<u64>)>,
    receipts_open: BTreeMap<&'h str, (Option<u64>, usize)>,
}

impl<'h> Facts<'h> {
    /// Collects the facts of a history.
    pub fn of(history: &'h History) -> Facts<'h> {
        let mut facts = Facts { has_audit: history.has_audit(), ..Facts::default() };
        for entry in history.entries() {
            facts.take(entry);
        }
        facts.name_rows();
        facts
    }

    /// Assigns rows to planned events by the acknowledged id. The target of a row counts only if no
    /// client got its id.
    fn name_rows(&mut self) {
        for (ordinal, event) in &self.events {
            for acknowledged in &event.acknowledged {
                if let Some(row) = self.rows.get_mut(acknowledged.op.id.as_str()) {
                    row.ordinal = Some(*ordinal);
                }
            }
        }
    }

    /// Returns the events with at least one 202.
    pub fn accepted(&self) -> impl Iterator<Item = (u64, &EventFacts<'h>)> {
        self.events.iter().filter(|(_, e)| !e.acknowledged.is_empty()).map(|(o, e)| (*o, e))
    }

    /// Returns every request, including those without an ordinal.
    pub fn receipts(&self) -> impl Iterator<Item = &ReceiptFacts<'h>> {
        self.events.values().flat_map(|event| &event.receipts).chain(&self.strays)
    }

    /// Returns the settings of the workers of an event.
    pub fn settings(&self, event: &EventFacts<'h>) -> Option<&'h Settings> {
        self.start.and_then(|start| start.sections.get(&event.section()))
    }

    /// Returns the settings of the workers of a row.
    pub fn settings_of(&self, row: &RowFacts<'h>) -> Option<&'h Settings> {
        let event = self.events.get(&row.ordinal?)?;
        self.settings(event)
    }

    /// Returns the request of an attempt of a row.
    pub fn receipt(&self, row: &RowFacts<'h>, attempt: u32) -> Option<&ReceiptFacts<'h>> {
        let event = self.events.get(&row.ordinal?)?;
        let mut receipts = event.receipts.iter();
        receipts.find(|receipt| receipt.begin.op.attempt == Some(attempt))
    }

    /// Returns the faults that may affect an event. Faults are injected only into the main section.
    pub fn faults_of(&self, event: &EventFacts<'h>) -> &[FaultFacts<'h>] {
        match event.section() {
            Section::Main => &self.faults,
            Section::Defaults => &[],
        }
    }

    fn take(&mut self, entry: &'h Entry) {
        match &entry.op {
            Op::RunStart(op) => self.start = Some(op),
            Op::Phase(op) => {
                self.phases.insert(op.phase, (entry.t, op.bound_us));
            }
            Op::IngestInvoke(op) => self.event(op.ordinal).invokes.push(at(entry, op)),
            Op::IngestOk(op) => self.event(op.ordinal).acknowledged.push(at(entry, op)),
            Op::IngestFail(op) => self.event(op.ordinal).failed.push(at(entry, op)),
            Op::IngestInfo(op) => self.event(op.ordinal).unknown.push(at(entry, op)),
            Op::State(op) => self.event(op.ordinal).state = Some(at(entry, op)),
            Op::RecvBegin(op) => self.begin(at(entry, op)),
            Op::RecvEnd(op) => self.end(at(entry, op)),
            Op::FaultStart(op) => {
                self.faults.push(FaultFacts {
                    start: at(entry, op),
                    effect: None,
                    end_us: None,
                    forced: false,
                });
            }
            Op::FaultEffect(op) => {
                if let Some(fault) = self.fault(op.fault) {
                    fault.effect = Some(at(entry, op));
                }
            }
            Op::FaultEnd(op) => {
                if let Some(fault) = self.fault(op.fault) {
                    fault.end_us = Some(entry.t);
                }
            }
            Op::FaultSkip(op) => self.skipped.push((&op.f, &op.why)),
            Op::WorkerExit(op) => {
                self.exits.push(at(entry, op));
                if let Some(fault) = self.fault(op.fault) {
                    fault.forced |= op.forced;
                }
            }
            Op::BoundReached(op) => self.bounds_reached.push(at(entry, op)),
            Op::Health(op) => self.health.push(at(entry, op)),
            Op::Worker(op) => self.workers.push(at(entry, op)),
            Op::Readiness(op) => {
                self.readiness.entry(&op.worker).or_default().push(at(entry, op));
            }
            Op::ClockWarning(op) => self.clock_warnings.push(at(entry, op)),
            Op::Sessions(op) => self.sessions.entry(op.section).or_default().push(at(entry, op)),
            Op::Usage(op) => self.usage.entry(&op.worker).or_default().push(at(entry, op)),
            Op::WorkerLog(op) => self.logs.push(at(entry, op)),
            op => match op.transition() {
                Some((step, transition)) => {
                    let row = self.rows.entry(&transition.id).or_default();
                    if let Some(target) = &transition.target {
                        row.ordinal = rows::ordinal_of(target);
                    }
                    row.steps.push((step, at(entry, transition)));
                    self.store.take(entry);
                }
                None => self.store.take(entry),
            },
        }
    }

    fn event(&mut self, ordinal: u64) -> &mut EventFacts<'h> {
        self.events.entry(ordinal).or_default()
    }

    fn fault(&mut self, number: u64) -> Option<&mut FaultFacts<'h>> {
        // Few faults are open at a time, and the last one is at the end.
        self.faults.iter_mut().rev().find(|fault| fault.start.op.fault == number)
    }

    fn begin(&mut self, begin: At<'h, RecvBegin>) {
        let ordinal = begin.op.ordinal;
        let receipts = match ordinal {
            Some(ordinal) => &mut self.event(ordinal).receipts,
            None => &mut self.strays,
        };
        receipts.push(ReceiptFacts { begin, end: None });
        let place = (ordinal, receipts.len() - 1);
        self.receipts_open.insert(&begin.op.req, place);
    }

    fn end(&mut self, end: At<'h, RecvEnd>) {
        let Some((ordinal, index)) = self.receipts_open.remove(end.op.req.as_str()) else {
            return;
        };
        let receipts = match ordinal {
            Some(ordinal) => &mut self.event(ordinal).receipts,
            None => &mut self.strays,
        };
        receipts[index].end = Some(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::transition::Transition;

    #[test]
    fn row_belongs_to_its_acknowledged_event_or_its_target() {
        let accepted = Transition {
            id: "e".into(),
            target: Some("http://r/webhook/7".into()),
            ..Transition::default()
        };
        let acknowledged = Acknowledged { op: 1, ordinal: 3, id: "e".into() };
        let ordinal = |ops: Vec<Op>| {
            let history = History::from_ops(ops.into_iter().map(|op| (0, op)));
            Facts::of(&history).rows["e"].ordinal
        };
        let elsewhere = Transition { target: Some("http://r/webhook".into()), ..accepted.clone() };
        assert_eq!(ordinal(vec![Op::Accept(accepted.clone())]), Some(7));
        assert_eq!(ordinal(vec![Op::Accept(elsewhere)]), None);
        let acknowledged = vec![Op::Accept(accepted), Op::IngestOk(acknowledged)];
        assert_eq!(ordinal(acknowledged), Some(3));
    }
}
