//! The transition settle, fenced by the lease token.

use std::collections::BTreeMap;

use dispatcher::event::{Disposition, EventId, Settled, Settlement};
use dispatcher::store::{AttemptView, StoredTime};

use super::{Attempt, JournalEntry, Lease, Model, micros, stored};
use crate::history::transition::Step;

impl Model {
    /// Writes each settlement whose lease token is still current. Returns one result per
    /// settlement, in the order of the input.
    pub fn settle(&mut self, now_us: i64, settlements: &[Settlement]) -> Vec<Settled> {
        // Postgres locks the rows in id order. If a batch has two settlements of one event, the
        // last one counts.
        let batch: BTreeMap<EventId, &Settlement> =
            settlements.iter().map(|s| (s.key.id, s)).collect();
        let results: BTreeMap<EventId, Settled> = batch
            .into_iter()
            .map(|(id, settlement)| (id, self.settle_one(now_us, settlement)))
            .collect();
        settlements.iter().map(|s| results[&s.key.id]).collect()
    }

    /// Settles without a check of the lease token. Only a mutant calls this.
    pub fn settle_unfenced(&mut self, now_us: i64, settlement: &Settlement) {
        let row = self.rows.get(&settlement.key.id);
        if let Some(lease) = row.map(|row| row.lease) {
            self.write(now_us, settlement, lease);
        }
    }

    fn settle_one(&mut self, now_us: i64, settlement: &Settlement) -> Settled {
        let key = settlement.key;
        let Some(lease) = self.current_lease(key.id, key.token) else {
            let already = self.is_settled_by(settlement);
            self.journal.push(JournalEntry::Fenced { id: key.id, token: key.token, already });
            return if already { Settled::Already } else { Settled::LeaseLost };
        };
        let is_recorded = self.write(now_us, settlement, Some(lease));
        if is_recorded { Settled::Now } else { Settled::Unrecorded }
    }

    fn is_settled_by(&self, settlement: &Settlement) -> bool {
        let key = settlement.key;
        let attempts = self.attempts.range((key.id, 0)..=(key.id, u32::MAX));
        attempts
            .into_iter()
            .any(|(_, attempt)| attempt.token == key.token && attempt.view.outcome != "abandoned")
    }

    /// Returns false if the number of the attempt exists already, so that it gets no row.
    fn write(&mut self, now_us: i64, settlement: &Settlement, ended_lease: Option<Lease>) -> bool {
        let key = settlement.key;
        let row = self.rows.get_mut(&key.id).expect("the caller found the row");
        let (status, reason, due) = match settlement.disposition {
            Disposition::Delivered => ("delivered", None, None),
            Disposition::RetryAfter(delay) => ("pending", None, Some(now_us + micros(delay))),
            Disposition::Dead(reason) => ("dead", Some(reason.as_str().to_owned()), None),
        };
        row.counts.status = status.into();
        row.counts.reason = reason;
        row.counts.failure_count += u32::from(status != "delivered");
        row.counts.abandon_count = 0;
        row.due_us = due;
        row.finished_us = due.is_none().then_some(now_us);
        row.lease = None;
        let outcome = settlement.result.outcome.as_str();
        let status_code = settlement.result.outcome.status();
        let view = AttemptView {
            number: i32::try_from(key.number).unwrap_or(i32::MAX),
            started_at: StoredTime(settlement.started_at),
            duration_ms: i64::try_from(settlement.duration.as_millis()).ok(),
            outcome: outcome.into(),
            status_code: status_code.and_then(|code| i16::try_from(code).ok()),
            error: settlement.result.error.clone(),
            response: settlement.result.snippet.clone(),
            next_retry_at: due.map(stored),
        };
        let token = key.token;
        let number = (key.id, key.number);
        let is_recorded = !self.attempts.contains_key(&number);
        let attempt = Attempt { token, view };
        self.attempts.entry(number).or_insert(attempt);
        self.journal.push(JournalEntry::Committed {
            step: Step::Settle,
            id: key.id,
            attempt: key.number,
            sent_token: Some(token),
            ended_lease,
            outcome: Some(outcome.into()),
        });
        is_recorded
    }
}
