//! The transitions that begin and end a lease without a settle: claim, release, reclaim.

use std::time::Duration;

use chrono::{DateTime, Utc};
use dispatcher::event::{Claim, ClaimKey, EventId, LeaseToken, Release, WorkerId};
use dispatcher::store::{AttemptView, ClaimLimit, Claimed, Reclaim, ReclaimCause, Reclaimed};

use super::{Attempt, JournalEntry, Lease, Model, micros, stored, time};
use crate::history::transition::Step;

impl Model {
    /// Returns the events that a claim with these bounds may take now, in the order of their due
    /// times.
    pub fn claimable(&self, now_us: i64, limit: &ClaimLimit) -> Vec<EventId> {
        let from_us = limit.due_from.map(|from| from.timestamp_micros());
        let claimable = self.rows.iter().filter(|(_, row)| row.is_claimable(now_us));
        let scanned = claimable
            .filter(|(_, row)| from_us.is_none() || row.due_us >= from_us)
            .filter(|(_, row)| row.is_due_in(now_us, limit.range));
        let mut due: Vec<_> = scanned.map(|(id, row)| (row.due_us, *id)).collect();
        due.sort_unstable();
        due.into_iter().map(|(_, id)| id).collect()
    }

    /// Gives each chosen event a lease with the given token and begins an attempt.
    pub fn claim(
        &mut self,
        now_us: i64,
        holder: WorkerId,
        lease: Duration,
        chosen: impl IntoIterator<Item = (EventId, LeaseToken)>,
    ) -> Claimed {
        let mut claims = Vec::new();
        let (mut first_due, mut last_due) = (None, None);
        for (id, token) in chosen {
            let Some(row) = self.rows.get_mut(&id) else {
                continue;
            };
            assert!(row.is_claimable(now_us), "only claimable events are chosen");
            first_due = first_due.into_iter().chain(row.due_us).min();
            last_due = last_due.max(row.due_us);
            row.lease =
                Some(Lease { token, until_us: now_us + micros(lease), claimed_us: now_us, holder });
            row.counts.attempt_count += 1;
            let number = row.counts.attempt_count;
            claims.push(Claim {
                key: ClaimKey { id, token, number },
                failure_count: row.counts.failure_count,
                target_url: row.target_url.clone(),
                payload: row.payload.clone(),
                unfetched: 0,
            });
            self.log(Step::Claim, id, number);
        }
        Claimed {
            now: time(now_us),
            first_due: first_due.map(time),
            last_due: last_due.map(time),
            claims,
        }
    }

    /// Returns each claim whose lease token is still current, without an attempt. Returns the
    /// number of released claims.
    pub fn release(&mut self, now_us: i64, releases: &[Release]) -> usize {
        let mut released = 0;
        for release in releases {
            let ClaimKey { id, token, .. } = release.key;
            let Some(lease) = self.current_lease(id, token) else {
                let already = false;
                self.journal.push(JournalEntry::Fenced { id, token, already });
                continue;
            };
            let row = self.rows.get_mut(&id).expect("an event with a lease has a row");
            let number = row.counts.attempt_count;
            // A mutant may not have counted the claim.
            row.counts.attempt_count = number.saturating_sub(1);
            row.due_us = Some(now_us + micros(release.delay));
            row.lease = None;
            released += 1;
            self.journal.push(JournalEntry::Committed {
                step: Step::Release,
                id,
                attempt: number,
                sent_token: Some(token),
                ended_lease: Some(lease),
                outcome: None,
            });
        }
        released
    }

    /// Returns the leases of a worker in id order. `due_from` is the lower bound of the due time.
    pub fn own_leases(&self, holder: WorkerId, due_from: Option<DateTime<Utc>>) -> Vec<ClaimKey> {
        let from_us = due_from.map(|from| from.timestamp_micros());
        let scanned = self.rows.iter();
        let scanned = scanned.filter(|(_, row)| from_us.is_none() || row.due_us >= from_us);
        let own = scanned.filter_map(|(id, row)| {
            let lease = row.lease.filter(|lease| lease.holder == holder)?;
            Some(ClaimKey { id: *id, token: lease.token, number: row.counts.attempt_count })
        });
        own.collect()
    }

    /// Ends leases that have expired or whose worker has no presence lock, in id order. The number
    /// of jitter factors limits the number of leases.
    pub fn reclaim(&mut self, now_us: i64, reclaim: &Reclaim) -> Vec<Reclaimed> {
        let is_lapsed = |lease: &Lease| match reclaim.cause {
            ReclaimCause::Expired => lease.until_us <= now_us,
            ReclaimCause::Gone(holder) => lease.holder == holder && !self.locks.contains(&holder),
        };
        let lapsed: Vec<(EventId, Lease)> = self
            .rows
            .iter()
            .filter(|(_, row)| row.is_due_in(now_us, reclaim.range))
            .filter_map(|(id, row)| Some((*id, row.lease.filter(is_lapsed)?)))
            .take(reclaim.factors.len())
            .collect();
        let ended = lapsed.into_iter().zip(&reclaim.factors);
        ended
            .map(|((id, lease), factor)| self.abandon(now_us, id, lease, reclaim, *factor))
            .collect()
    }

    fn abandon(
        &mut self,
        now_us: i64,
        id: EventId,
        lease: Lease,
        reclaim: &Reclaim,
        factor: f64,
    ) -> Reclaimed {
        let row = self.rows.get_mut(&id).expect("an event with a lease has a row");
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
            key: ClaimKey { id, token: lease.token, number },
            worker: lease.holder,
            abandon_count: row.counts.abandon_count,
            is_dead: row.due_us.is_none(),
            is_recorded: !self.attempts.contains_key(&(id, number)),
        };
        let view = AttemptView {
            number: i32::try_from(number).unwrap_or(i32::MAX),
            started_at: stored(lease.claimed_us),
            duration_ms: None,
            outcome: "abandoned".into(),
            status_code: None,
            error: Some(why(reclaim.cause).into()),
            response: None,
            next_retry_at: row.due_us.map(stored),
        };
        let token = lease.token;
        let attempt = Attempt { token, view };
        self.attempts.entry((id, number)).or_insert(attempt);
        self.journal.push(JournalEntry::Committed {
            step: Step::Reclaim,
            id,
            attempt: number,
            sent_token: Some(token),
            ended_lease: Some(lease),
            outcome: Some("abandoned".into()),
        });
        reclaimed
    }

    /// Returns the lease of an event if `token` is its token.
    pub(super) fn current_lease(&self, id: EventId, token: LeaseToken) -> Option<Lease> {
        let lease = self.rows.get(&id)?.lease;
        lease.filter(|lease| lease.token == token)
    }
}

const fn why(cause: ReclaimCause) -> &'static str {
    match cause {
        ReclaimCause::Expired => "the lease expired before the worker settled the attempt",
        ReclaimCause::Gone(_) => "the presence lock of the worker was absent",
    }
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
