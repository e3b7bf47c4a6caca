//! How attempts end: settle, fenced by the lease token.

use std::collections::BTreeMap;

use dispatcher::event::{Disposition, EventId, Settled, Settlement};
use dispatcher::store::AttemptView;

use super::lease::micros;
use super::{Attempt, Lease, Model, Touch, time};
use crate::history::transition::Step;

impl Model {
    /// settle: each whose token still holds is written; one answer each, in order.
    pub fn settle(&mut self, now_us: i64, settlements: &[Settlement]) -> Vec<Settled> {
        // Of two for one event in a batch, the last counts; locks are taken in the order of ids.
        let batch: BTreeMap<EventId, &Settlement> =
            settlements.iter().map(|s| (s.key.id, s)).collect();
        let answers: BTreeMap<EventId, Settled> = batch
            .into_iter()
            .map(|(id, settlement)| (id, self.settle_one(now_us, settlement)))
            .collect();
        settlements.iter().map(|s| answers[&s.key.id]).collect()
    }

    /// A settle that looks at no token: what a store without fencing would do.
    pub fn settle_unfenced(&mut self, now_us: i64, settlement: &Settlement) {
        let held = self.rows.get(&settlement.key.id).map(|row| row.lease);
        if let Some(held) = held {
            self.write(now_us, settlement, held);
        }
    }

    fn settle_one(&mut self, now_us: i64, settlement: &Settlement) -> Settled {
        let key = settlement.key;
        let Some(held) = self.held(key.id, key.token) else {
            let already = self.is_settled_by(settlement);
            self.journal.push(Touch::Fenced {
                id: key.id,
                token: key.token,
                already,
            });
            return if already {
                Settled::Already
            } else {
                Settled::LeaseLost
            };
        };
        self.write(now_us, settlement, Some(held));
        Settled::Now
    }

    fn is_settled_by(&self, settlement: &Settlement) -> bool {
        let key = settlement.key;
        let attempts = self.attempts.range((key.id, 0)..=(key.id, u32::MAX));
        attempts
            .into_iter()
            .any(|(_, attempt)| attempt.token == key.token && attempt.view.outcome != "abandoned")
    }

    fn write(&mut self, now_us: i64, settlement: &Settlement, held: Option<Lease>) {
        let key = settlement.key;
        let row = self.rows.get_mut(&key.id).expect("a row that is settled");
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
            started_at: settlement.started_at,
            duration_ms: i64::try_from(settlement.duration.as_millis()).ok(),
            outcome: outcome.into(),
            status_code: status_code.and_then(|code| i16::try_from(code).ok()),
            error: settlement.result.error.clone(),
            response: settlement.result.snippet.clone(),
            next_retry_at: due.map(time),
        };
        let token = key.token;
        self.attempts
            .insert((key.id, key.number), Attempt { token, view });
        self.journal.push(Touch::Row {
            step: Step::Settle,
            id: key.id,
            attempt: key.number,
            shown: Some(token),
            held,
            outcome: Some(outcome.into()),
        });
    }
}
