//! A model of the dispatcher's Postgres store: pure operations on ordered maps.
//!
//! It is written from the accounting table and not from the SQL, so a mistake in the SQL is not
//! copied. `tests/model.rs` compares it with the real store after every operation. The current time
//! and the events of a claim are inputs. Faults and virtual time belong to `sim/store.rs`.

mod attempts;
mod lease;
mod presence;
mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use dispatcher::event::{EventId, LeaseHolder, LeaseToken, NewEvent, WorkerId};
use dispatcher::store::{AttemptView, DueRange, Inserted, StoredTime};

use crate::history::op::Op;
use crate::history::transition::{Census, Counts, Fenced, Step, Transition};

/// The rows of the store, and the transitions since the last [`Model::take_transitions`].
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// The table `webhook_events`.
    pub rows: BTreeMap<EventId, Row>,
    /// The table `delivery_attempts`: ended attempts by event and number.
    pub attempts: BTreeMap<(EventId, u32), Attempt>,
    keys: BTreeMap<String, EventId>,
    registered: BTreeSet<WorkerId>,
    locks: BTreeSet<WorkerId>,
    journal: Vec<JournalEntry>,
}

/// One row of `webhook_events`. Times are microseconds of Unix time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The URL to which the event is sent.
    pub target_url: String,
    /// True if the client named the target, false if it is the default target.
    pub target_given: bool,
    /// The bytes of the request body, unchanged.
    pub payload: Vec<u8>,
    /// The client's idempotency key.
    pub idempotency_key: Option<String>,
    /// State and counters of the accounting table.
    pub counts: Counts,
    /// Due time; none if the event is final.
    pub due_us: Option<i64>,
    /// The lease of the current claim, if the event is claimed.
    pub lease: Option<Lease>,
    /// Time of acceptance.
    pub created_us: i64,
    /// Time at which the event became final.
    pub finished_us: Option<i64>,
}

/// The lease columns of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Fences the settle: a settle with another token changes nothing.
    pub token: LeaseToken,
    /// End of the lease, in microseconds of Unix time.
    pub until_us: i64,
    /// Time of the claim, in microseconds of Unix time.
    pub claimed_us: i64,
    /// The worker that holds the lease.
    pub holder: WorkerId,
}

/// One row of `delivery_attempts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Lease token of the attempt's claim.
    pub token: LeaseToken,
    /// The columns that the API shows.
    pub view: AttemptView,
}

/// A transition that [`Model::take_transitions`] has not returned yet. The state after the
/// transition is read from the row at that time.
#[derive(Clone, Debug)]
enum JournalEntry {
    Committed {
        step: Step,
        id: EventId,
        attempt: u32,
        /// Token that the statement sent; none if the statement sends no token.
        sent_token: Option<LeaseToken>,
        /// Lease that the transition ended.
        ended_lease: Option<Lease>,
        outcome: Option<String>,
    },
    Fenced {
        id: EventId,
        token: LeaseToken,
        already: bool,
    },
}

impl Model {
    /// Accepts an event. A known idempotency key returns the first event of this key, or a conflict
    /// if payload or target differ.
    ///
    /// With a token, a new event is leased to `holder`: accept and claim are two transitions of one
    /// transaction.
    pub fn insert(
        &mut self,
        now_us: i64,
        event: &NewEvent,
        leased: Option<(LeaseHolder, LeaseToken)>,
    ) -> Inserted {
        let key = event.idempotency_key.as_ref();
        if let Some(id) = key.and_then(|key| self.keys.get(key)).copied() {
            let same = self.rows.get(&id).is_some_and(|row| {
                row.payload == event.payload
                    && row.target_given == event.target.is_given()
                    && (!row.target_given || row.target_url == event.target.url())
            });
            return if same { Inserted::Accepted(id) } else { Inserted::Conflict(id) };
        }
        if let Some(key) = key {
            self.keys.insert(key.clone(), event.id);
        }
        let row = Row {
            target_url: event.target.url().to_owned(),
            target_given: event.target.is_given(),
            payload: event.payload.clone(),
            idempotency_key: event.idempotency_key.clone(),
            counts: Counts { status: PENDING.to_owned(), ..Counts::default() },
            due_us: Some(now_us),
            lease: None,
            created_us: now_us,
            finished_us: None,
        };
        self.rows.insert(event.id, row);
        self.log(Step::Accept, event.id, 0);
        if let Some((LeaseHolder { worker, lease }, token)) = leased {
            self.claim(now_us, worker, lease, [(event.id, token)]);
        }
        Inserted::Accepted(event.id)
    }

    /// Removes an idempotency key. Only a mutant calls this: it stands for a missing unique index.
    pub fn forget_key(&mut self, key: &str) {
        self.keys.remove(key);
    }

    /// Counts the rows by state.
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

    /// Returns true if every event is final.
    pub fn is_settled(&self) -> bool {
        self.rows.values().all(|row| row.counts.is_final())
    }

    /// Returns the transitions since the last call, each with the current state of its row.
    pub fn take_transitions(&mut self, now_us: i64) -> Vec<Op> {
        let journal = std::mem::take(&mut self.journal);
        journal.into_iter().map(|entry| self.transition(now_us, entry)).collect()
    }

    fn transition(&self, now_us: i64, entry: JournalEntry) -> Op {
        match entry {
            JournalEntry::Fenced { id, token, already } => Op::Fenced(Fenced {
                id: id.to_string(),
                token: token.0.simple().to_string(),
                already,
            }),
            JournalEntry::Committed { step, id, attempt, sent_token, ended_lease, outcome } => {
                let row = self.rows.get(&id);
                // The claim of an accept and claim follows in the journal.
                let is_accept = step == Step::Accept;
                let accepted = || Counts { status: PENDING.to_owned(), ..Counts::default() };
                let lease = row.and_then(|row| row.lease).filter(|_| !is_accept);
                let last_lease = lease.or(ended_lease);
                Op::of_transition(
                    step,
                    Transition {
                        id: id.to_string(),
                        target: row.filter(|_| is_accept).map(|row| row.target_url.clone()),
                        attempt,
                        token: sent_token
                            .or(lease.map(|lease| lease.token))
                            .map(|token| token.0.simple().to_string()),
                        held: ended_lease.map(|lease| lease.token.0.simple().to_string()),
                        holder: last_lease.map(|lease| lease.holder.to_string()),
                        outcome,
                        now_us,
                        lease_until_us: last_lease.map(|lease| lease.until_us),
                        due_us: row.and_then(|row| row.due_us),
                        after: row
                            .map(|row| if is_accept { accepted() } else { row.counts.clone() })
                            .unwrap_or_default(),
                    },
                )
            }
        }
    }

    fn log(&mut self, step: Step, id: EventId, attempt: u32) {
        self.journal.push(JournalEntry::Committed {
            step,
            id,
            attempt,
            sent_token: None,
            ended_lease: None,
            outcome: None,
        });
    }
}

impl Row {
    /// Returns true if a claim may take the event: it is due and not leased.
    pub fn is_claimable(&self, now_us: i64) -> bool {
        self.lease.is_none() && self.due_us.is_some_and(|due| due <= now_us)
    }

    /// Returns true if the due time is in the range.
    fn is_due_in(&self, now_us: i64, range: DueRange) -> bool {
        let ago = |age| now_us - micros(age);
        let newest_us = ago(range.newest);
        let oldest_us = range.oldest.map_or(i64::MIN, ago);
        self.due_us.is_some_and(|due| (oldest_us..=newest_us).contains(&due))
    }
}

/// State of an event that is not final.
const PENDING: &str = "pending";

/// A duration in microseconds, the resolution of Postgres.
fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Converts microseconds of Unix time.
pub fn time(us: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(us).expect("simulated times are in the range of chrono")
}

/// Converts microseconds of Unix time into a time that was read from the store.
fn stored(us: i64) -> StoredTime {
    StoredTime(time(us))
}
