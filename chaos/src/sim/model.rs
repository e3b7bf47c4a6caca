//! The model store: what Postgres does for the dispatcher, as pure operations on ordered maps.
//!
//! Written from the accounting table, not from the SQL, and held against the real store operation by
//! operation in `tests/model.rs`. Time and choice are inputs. It must not know faults, workers or
//! virtual time: those belong to the server around it.

mod attempts;
mod lease;
mod presence;
mod read;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use dispatcher::event::{EventId, LeaseToken, NewEvent, WorkerId};
use dispatcher::store::{AttemptView, Inserted};

use crate::history::op::Op;
use crate::history::transition::{Census, Counts, Fenced, Step, Transition};

/// The rows of the store, and the transitions that nobody has taken yet.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// Every event, as its table keeps it.
    pub rows: BTreeMap<EventId, Row>,
    /// Ended attempts by event and number.
    pub attempts: BTreeMap<(EventId, u32), Attempt>,
    keys: BTreeMap<String, EventId>,
    registered: BTreeSet<WorkerId>,
    locks: BTreeSet<WorkerId>,
    journal: Vec<Touch>,
}

/// One event, as its table keeps it; times are microseconds of Unix time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Where it goes.
    pub target_url: String,
    /// Whether the client named the target.
    pub target_given: bool,
    /// The exact bytes.
    pub payload: Vec<u8>,
    /// The client's idempotency key.
    pub idempotency_key: Option<String>,
    /// What the accounting table counts.
    pub counts: Counts,
    /// When it is due, while it is pending.
    pub due_us: Option<i64>,
    /// Its lease.
    pub lease: Option<Lease>,
    /// When it was accepted.
    pub created_us: i64,
    /// When it ended.
    pub finished_us: Option<i64>,
}

/// A lease, as the row keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The fence.
    pub token: LeaseToken,
    /// Until when, in microseconds of Unix time.
    pub until_us: i64,
    /// Since when, in microseconds of Unix time.
    pub claimed_us: i64,
    /// Whose.
    pub holder: WorkerId,
}

/// An ended attempt, with the token of its claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The token of its claim.
    pub token: LeaseToken,
    /// What the view shows.
    pub view: AttemptView,
}

/// A transition that was made and not yet written down: the row is read when it is.
#[derive(Clone, Debug)]
enum Touch {
    Row {
        step: Step,
        id: EventId,
        attempt: u32,
        shown: Option<LeaseToken>,
        held: Option<Lease>,
        outcome: Option<String>,
    },
    Fenced {
        id: EventId,
        token: LeaseToken,
        already: bool,
    },
}

impl Model {
    /// accept, by the rule of idempotency keys.
    pub fn insert(&mut self, now_us: i64, event: &NewEvent) -> Inserted {
        let first = event.idempotency_key.as_ref();
        if let Some(id) = first.and_then(|key| self.keys.get(key)).copied() {
            let same = self.rows.get(&id).is_some_and(|row| {
                row.payload == event.payload
                    && row.target_given == event.target.is_given()
                    && (!row.target_given || row.target_url == event.target.url())
            });
            return if same {
                Inserted::Accepted(id)
            } else {
                Inserted::Conflict(id)
            };
        }
        if let Some(key) = first {
            self.keys.insert(key.clone(), event.id);
        }
        let row = Row {
            target_url: event.target.url().to_owned(),
            target_given: event.target.is_given(),
            payload: event.payload.clone(),
            idempotency_key: event.idempotency_key.clone(),
            counts: Counts {
                status: PENDING.to_owned(),
                ..Counts::default()
            },
            due_us: Some(now_us),
            lease: None,
            created_us: now_us,
            finished_us: None,
        };
        self.rows.insert(event.id, row);
        self.touch(Step::Accept, event.id, 0, None);
        Inserted::Accepted(event.id)
    }

    /// Takes a key out of memory, as a store without the unique index would.
    pub fn forget_key(&mut self, key: &str) {
        self.keys.remove(key);
    }

    /// The rows counted by state.
    #[must_use]
    pub fn census(&self) -> Census {
        let mut census = Census::default();
        for row in self.rows.values() {
            census.rows += 1;
            match (row.counts.status.as_str(), row.lease) {
                (PENDING, None) => census.pending += 1,
                (PENDING, Some(_)) => census.leased += 1,
                ("delivered", _) => census.delivered += 1,
                _ => census.dead += 1,
            }
        }
        census
    }

    /// True when every row has ended.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.rows.values().all(|row| row.counts.is_final())
    }

    /// The transitions made since the last call, each with its row as it is now.
    pub fn take_transitions(&mut self, now_us: i64) -> Vec<Op> {
        let journal = std::mem::take(&mut self.journal);
        journal
            .into_iter()
            .map(|touch| self.told(now_us, touch))
            .collect()
    }

    fn told(&self, now_us: i64, touch: Touch) -> Op {
        match touch {
            Touch::Fenced { id, token, already } => Op::Fenced(Fenced {
                id: id.to_string(),
                token: token.0.simple().to_string(),
                already,
            }),
            Touch::Row {
                step,
                id,
                attempt,
                shown,
                held,
                outcome,
            } => {
                let row = self.rows.get(&id);
                let lease = row.and_then(|row| row.lease);
                let told = lease.or(held);
                step.op(Transition {
                    id: id.to_string(),
                    target: row
                        .filter(|_| step == Step::Accept)
                        .map(|row| row.target_url.clone()),
                    attempt,
                    token: shown
                        .or(lease.map(|lease| lease.token))
                        .map(|token| token.0.simple().to_string()),
                    held: held.map(|lease| lease.token.0.simple().to_string()),
                    holder: told.map(|lease| lease.holder.to_string()),
                    outcome,
                    now_us,
                    lease_until_us: told.map(|lease| lease.until_us),
                    due_us: row.and_then(|row| row.due_us),
                    after: row.map(|row| row.counts.clone()).unwrap_or_default(),
                })
            }
        }
    }

    fn touch(&mut self, step: Step, id: EventId, attempt: u32, held: Option<Lease>) {
        self.journal.push(Touch::Row {
            step,
            id,
            attempt,
            shown: None,
            held,
            outcome: None,
        });
    }
}

impl Row {
    /// True when a claim may take it.
    #[must_use]
    pub fn is_claimable(&self, now_us: i64) -> bool {
        self.lease.is_none() && self.due_us.is_some_and(|due| due <= now_us)
    }
}

/// The state of an event that has not ended.
const PENDING: &str = "pending";

/// Microseconds of Unix time as the dispatcher's type.
#[must_use]
pub fn time(us: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(us).expect("a time of this millennium")
}
