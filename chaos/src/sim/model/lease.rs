//! How leases begin and end: claim, release, reclaim.

use std::time::Duration;

use chrono::DateTime;
use dispatcher::event::{Claim, ClaimKey, EventId, LeaseToken, Release, WorkerId};
use dispatcher::store::{AttemptView, Claimed, Reclaim, ReclaimCause, Reclaimed};

use super::{Attempt, Lease, Model, Touch, time};
use crate::history::transition::Step;

impl Model {
    /// Events that a claim may take now, the earliest due first; none that was due before `from_us`.
    #[must_use]
    pub fn claimable(&self, now_us: i64, from_us: Option<i64>) -> Vec<EventId> {
        let due = self.rows.iter().filter(|(_, row)| row.is_claimable(now_us));
        let due = due.filter(|(_, row)| from_us.is_none() || row.due_us >= from_us);
        let mut due: Vec<(Option<i64>, EventId)> = due.map(|(id, row)| (row.due_us, *id)).collect();
        due.sort_unstable();
        due.into_iter().map(|(_, id)| id).collect()
    }

    /// claim: the chosen events get a lease each, under the tokens given with them.
    pub fn claim(
        &mut self,
        now_us: i64,
        holder: WorkerId,
        lease: Duration,
        chosen: impl IntoIterator<Item = (EventId, LeaseToken)>,
    ) -> Claimed {
        let mut claims = Vec::new();
        let mut first_due = None;
        for (id, token) in chosen {
            let Some(row) = self.rows.get_mut(&id) else {
                continue;
            };
            assert!(row.is_claimable(now_us), "a claim of what is not claimable");
            first_due = first_due.into_iter().chain(row.due_us).min();
            row.lease = Some(Lease {
                token,
                until_us: now_us + micros(lease),
                claimed_us: now_us,
                holder,
            });
            row.counts.attempt_count += 1;
            let number = row.counts.attempt_count;
            claims.push(Claim {
                key: ClaimKey { id, token, number },
                failure_count: row.counts.failure_count,
                target_url: row.target_url.clone(),
                payload: row.payload.clone(),
            });
            self.touch(Step::Claim, id, number, None);
        }
        Claimed {
            now: time(now_us),
            first_due: first_due.map(time),
            claims,
        }
    }

    /// release: each whose token still holds goes back unsent.
    pub fn release(&mut self, now_us: i64, releases: &[Release]) -> usize {
        let mut released = 0;
        for release in releases {
            let ClaimKey { id, token, .. } = release.key;
            let Some(held) = self.held(id, token) else {
                let already = false;
                self.journal.push(Touch::Fenced { id, token, already });
                continue;
            };
            let row = self.rows.get_mut(&id).expect("a row that holds a lease");
            let number = row.counts.attempt_count;
            row.counts.attempt_count -= 1;
            row.due_us = Some(now_us + micros(release.delay));
            row.lease = None;
            released += 1;
            self.journal.push(Touch::Row {
                step: Step::Release,
                id,
                attempt: number,
                shown: Some(token),
                held: Some(held),
                outcome: None,
            });
        }
        released
    }

    /// reclaim: leases whose holder is gone or late end, in the order of ids.
    pub fn reclaim(&mut self, now_us: i64, reclaim: &Reclaim) -> Vec<Reclaimed> {
        let gone = |lease: &Lease| match reclaim.cause {
            ReclaimCause::Expired => lease.until_us <= now_us,
            ReclaimCause::Gone(holder) => lease.holder == holder && !self.locks.contains(&holder),
        };
        let lapsed: Vec<(EventId, Lease)> = self
            .rows
            .iter()
            .filter(|(_, row)| row.due_us.is_some_and(|due| due <= now_us))
            .filter_map(|(id, row)| Some((*id, row.lease.filter(gone)?)))
            .take(reclaim.factors.len())
            .collect();
        let ends = lapsed.into_iter().zip(&reclaim.factors);
        ends.map(|((id, lease), factor)| self.end(now_us, id, lease, reclaim, *factor))
            .collect()
    }

    fn end(
        &mut self,
        now_us: i64,
        id: EventId,
        lease: Lease,
        reclaim: &Reclaim,
        factor: f64,
    ) -> Reclaimed {
        let row = self.rows.get_mut(&id).expect("a row that holds a lease");
        let number = row.counts.attempt_count;
        row.counts.abandon_count += 1;
        row.lease = None;
        let delay = reclaim.delays.get(row.counts.abandon_count as usize - 1);
        row.due_us = delay.map(|delay| now_us + stretched(*delay, factor));
        if row.due_us.is_none() {
            row.counts.status = "dead".into();
            row.counts.reason = Some("abandoned".into());
            row.finished_us = Some(now_us);
        }
        let reclaimed = Reclaimed {
            key: ClaimKey {
                id,
                token: lease.token,
                number,
            },
            worker: lease.holder,
            abandon_count: row.counts.abandon_count,
            is_dead: row.due_us.is_none(),
        };
        let view = AttemptView {
            number: i32::try_from(number).unwrap_or(i32::MAX),
            started_at: time(lease.claimed_us),
            duration_ms: None,
            outcome: "abandoned".into(),
            status_code: None,
            error: Some(why(reclaim.cause).into()),
            response: None,
            next_retry_at: row.due_us.and_then(DateTime::from_timestamp_micros),
        };
        let token = lease.token;
        self.attempts.insert((id, number), Attempt { token, view });
        self.journal.push(Touch::Row {
            step: Step::Reclaim,
            id,
            attempt: number,
            shown: Some(token),
            held: Some(lease),
            outcome: Some("abandoned".into()),
        });
        reclaimed
    }

    /// The lease of an event, if this is its token.
    pub(super) fn held(&self, id: EventId, token: LeaseToken) -> Option<Lease> {
        let lease = self.rows.get(&id)?.lease;
        lease.filter(|lease| lease.token == token)
    }
}

const fn why(cause: ReclaimCause) -> &'static str {
    match cause {
        ReclaimCause::Expired => "the lease expired before the worker settled the attempt",
        ReclaimCause::Gone(_) => "the worker has exited",
    }
}

/// A length of time as Postgres counts it.
pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Multiplies a delay by a jitter factor and rounds like Postgres, in microseconds.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "Postgres computes it in the same 64-bit floats"
)]
fn stretched(delay: Duration, factor: f64) -> i64 {
    (micros(delay) as f64 * factor).round_ties_even() as i64
}
