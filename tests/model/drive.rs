//! Runs one operation on both stores and compares the results.

use std::collections::BTreeSet;
use std::time::Duration;

use chaos::sim::model::{Row, time};
use dispatcher::event::{
    AttemptResult, Claim, ClaimKey, Disposition, EventId, LeaseHolder, LeaseToken, NewEvent,
    Outcome, Reason, Release, Settled, Settlement, Target, WorkerId,
};
use dispatcher::store::{
    ClaimLimit, Claimed, DueRange, Inserted, NewRow, Reclaim, ReclaimCause, Store,
};
use uuid::Uuid;

use super::both::{Both, same};
use super::{Operation, RangeMs};

/// Delays after consecutive abandoned attempts. One more abandoned attempt makes the event dead.
const DELAYS_MS: [u64; 1] = [300];

/// The effects of an operation, or the difference between the stores.
type Effects = Result<Vec<&'static str>, String>;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn worker_id(worker: u8) -> WorkerId {
    WorkerId(i64::from(worker) + 1)
}

fn due_range(range: Option<RangeMs>) -> DueRange {
    range.map_or(DueRange::ALL, |range| DueRange {
        newest: ms(range.newest),
        oldest: range.oldest.map(ms),
    })
}

fn reclaim(cause: ReclaimCause, jitters: &[u8], range: Option<RangeMs>) -> Reclaim {
    Reclaim {
        cause,
        delays: DELAYS_MS.map(ms).to_vec(),
        factors: jitters.iter().map(|eighths| 1.0 + 0.25 * f64::from(*eighths) / 8.0).collect(),
        range: due_range(range),
    }
}

impl Both {
    pub(super) async fn drive(&mut self, operation: &Operation) -> Effects {
        match *operation {
            Operation::Insert { key, payload, given, leased } => {
                let holder = leased.map(|(worker, lease_ms)| LeaseHolder {
                    worker: worker_id(worker),
                    lease: ms(lease_ms),
                });
                self.insert(key, payload, given, holder).await
            }
            Operation::Claim { worker, limit, from_ms, range, lease_ms } => {
                let from_us = from_ms.map(|from_ms| self.now_us + from_ms * 1_000);
                let limit = ClaimLimit {
                    due_from: from_us.map(time),
                    range: due_range(range),
                    ..ClaimLimit::of(limit)
                };
                self.claim(worker_id(worker), ms(lease_ms), limit).await
            }
            Operation::Settle { first, count, end } => {
                let picked = self.pick(first, count);
                let batch = picked
                    .iter()
                    .zip(0_u8..)
                    .map(|(claim, offset)| self.settlement(claim, end.wrapping_add(offset)));
                self.settle(batch.collect()).await
            }
            Operation::SettleAgain { which } => {
                let again = self.settled.get(usize::from(which) % self.settled.len().max(1));
                let batch = again.cloned().into_iter().collect();
                self.settle(batch).await
            }
            Operation::Release { first, count, delay_ms } => {
                self.release(first, count, ms(delay_ms)).await
            }
            Operation::ReclaimExpired { ref jitters, range } => {
                let reclaim = reclaim(ReclaimCause::Expired, jitters, range);
                self.reclaim(reclaim, "reclaim expired").await
            }
            Operation::ReclaimGone { worker, ref jitters } => {
                let cause = ReclaimCause::Gone(worker_id(worker));
                self.reclaim(reclaim(cause, jitters, None), "reclaim gone").await
            }
            Operation::Join { worker } => self.join(worker_id(worker)).await,
            Operation::Vanish { worker } => self.vanish(worker_id(worker)).await,
            Operation::Forget { worker } => self.forget(worker_id(worker)).await,
            Operation::OwnLeases { worker, from_ms } => {
                self.own_leases(worker_id(worker), from_ms).await
            }
            Operation::Absent => self.absent().await,
            Operation::Rewind { which } => self.rewind(which).await,
            Operation::NextDue { after_ms } => self.next_due(after_ms).await,
            Operation::Jump { by_ms } => {
                self.set_time(self.now_us + by_ms * 1_000).await;
                Ok(vec![])
            }
        }
    }

    async fn forget(&mut self, worker: WorkerId) -> Effects {
        let forgotten = self.store.forget(worker).await;
        forgotten.map_err(|e| e.to_string())?;
        self.model.forget(worker);
        Ok(vec!["forget"])
    }

    async fn own_leases(&mut self, worker: WorkerId, from_ms: Option<i64>) -> Effects {
        let from = from_ms.map(|from_ms| time(self.now_us + from_ms * 1_000));
        let leases = self.store.own_leases(worker, from).await;
        let keys = leases.map_err(|e| e.to_string())?.keys;
        same("own leases", &self.model.own_leases(worker, from), &keys)?;
        Ok(vec!["own leases"; keys.len().min(1)])
    }

    async fn absent(&mut self) -> Effects {
        let absent = self.store.absent_workers(worker_id(0)).await;
        let absent = absent.map_err(|e| e.to_string())?;
        same("absent", &self.model.absent_workers(worker_id(0)), &absent)?;
        Ok(vec!["absent"; absent.len().min(1)])
    }

    async fn rewind(&mut self, which: u8) -> Effects {
        let waiting = |row: &Row| row.lease.is_none() && row.due_us.is_some();
        let mut rows = self.model.rows.iter_mut().filter(|(_, row)| waiting(row));
        let Some((id, row)) = rows.nth(usize::from(which) / 32) else {
            return Ok(vec![]);
        };
        row.counts.attempt_count = 0;
        let rewind = "update webhook_events set attempt_count = 0 where id = $1";
        let rewind = sqlx::query(rewind).bind(id.0).execute(&self.pool).await;
        rewind.map_err(|e| e.to_string())?;
        Ok(vec!["rewind"])
    }

    async fn next_due(&mut self, after_ms: i64) -> Effects {
        let after_us = self.now_us + after_ms * 1_000;
        let next = self.store.next_due(time(after_us)).await;
        let next = next.map_err(|e| e.to_string())?;
        same("next due", &self.model.next_due(self.now_us, after_us), &next)?;
        Ok(vec!["next due"; usize::from(next.is_some())])
    }

    async fn insert(
        &mut self,
        key: Option<u8>,
        payload: u8,
        given: bool,
        holder: Option<LeaseHolder>,
    ) -> Effects {
        self.events += 1;
        let url = "http://127.0.0.1:9/".to_owned();
        let number = u128::from(self.events);
        let event = NewEvent {
            id: EventId(Uuid::from_u128(number)),
            payload: vec![b'0' + payload],
            target: if given { Target::Given(url) } else { Target::Default(url) },
            idempotency_key: key.map(|key| format!("key-{key}")),
        };
        let token = holder.map(|_| LeaseToken(Uuid::from_u128(number << 64)));
        let row = NewRow { event: &event, token };
        let stored = self.store.insert(&[row], holder).await.map_err(|e| e.to_string())?;
        same("time of the insert", &time(self.now_us), &stored.now)?;
        let inserted = stored.events[0];
        let model = self.model.insert(self.now_us, &event, holder.zip(token));
        same("insert", &model, &inserted)?;
        Ok(match (inserted, token) {
            (Inserted::Accepted(id), Some(token)) if id == event.id => {
                self.claims.push(Claim {
                    key: ClaimKey { id, token, number: 1 },
                    failure_count: 0,
                    target_url: event.target.url().to_owned(),
                    payload: event.payload,
                    unfetched: 0,
                });
                vec!["insert", "insert with a lease"]
            }
            (Inserted::Accepted(id), _) if id == event.id => vec!["insert"],
            (Inserted::Accepted(_), _) => vec!["insert again"],
            (Inserted::Conflict(_), _) => vec!["insert conflict"],
        })
    }

    /// Postgres chooses among events with the same due time. The test checks that the choice is
    /// legal, and the model claims the same events.
    async fn claim(&mut self, worker: WorkerId, lease: Duration, limit: ClaimLimit) -> Effects {
        let all = self.model.claimable(self.now_us, &ClaimLimit::of(0)).len();
        let due = self.model.claimable(self.now_us, &limit);
        let claimed = self.store.claim(worker, lease, limit).await;
        let Claimed { now, first_due, last_due, mut claims } =
            claimed.map_err(|e| e.to_string())?;
        same("count", &due.len().min(limit.events), &claims.len())?;
        let due_of = |id: &EventId| self.model.rows[id].due_us;
        let taken: BTreeSet<EventId> = claims.iter().map(|claim| claim.key.id).collect();
        if let Some(illegal) = taken.iter().find(|id| !due.contains(id)) {
            return Err(format!("{illegal} was claimed but is not claimable"));
        }
        let latest = taken.iter().map(due_of).max();
        let first_skipped = due.iter().filter(|id| !taken.contains(id)).map(due_of).min();
        if latest.zip(first_skipped).is_some_and(|(latest, first)| latest > first) {
            return Err("an event was skipped for an event that is due later".into());
        }
        claims.sort_by_key(|claim| claim.key.id);
        let chosen = claims.iter().map(|claim| (claim.key.id, claim.key.token));
        let model = self.model.claim(self.now_us, worker, lease, chosen);
        same("claim", &model, &Claimed { now, first_due, last_due, claims: claims.clone() })?;
        self.claims.extend(claims);
        Ok(match (taken.len(), due.len()) {
            (0, _) => vec![],
            (_, due) if due < all => vec!["claim", "claim from a time on"],
            (taken, due) if taken < due => vec!["claim", "claim a part"],
            _ => vec!["claim"],
        })
    }

    /// Picks at most one claim per event, recent claims with higher probability.
    fn pick(&self, first: u8, count: usize) -> Vec<Claim> {
        let back = usize::from(first) * self.claims.len() / 512;
        let newest = self.claims.iter().rev().skip(back);
        let mut seen = BTreeSet::new();
        let once = newest.filter(|claim| seen.insert(claim.key.id));
        once.take(count).cloned().collect()
    }

    fn settlement(&self, claim: &Claim, end: u8) -> Settlement {
        let (outcome, disposition) = match end % 6 {
            0 => (Outcome::Delivered { status: 204 }, Disposition::Delivered),
            1 => {
                let status = 410;
                let retry_after = None;
                let gone = Disposition::Dead(Reason::Gone);
                (Outcome::Rejected { status, retry_after }, gone)
            }
            2 => (Outcome::Timeout, Disposition::Dead(Reason::Exhausted)),
            _ => {
                let delay = Duration::from_micros(u64::from(end) * 10_007);
                (Outcome::Reset, Disposition::RetryAfter(delay))
            }
        };
        Settlement {
            key: claim.key,
            result: AttemptResult {
                outcome,
                error: Some("test".into()),
                snippet: Some(vec![0, end]),
            },
            disposition,
            started_at: time(self.now_us - 1),
            duration: ms(u64::from(end)),
        }
    }

    async fn settle(&mut self, batch: Vec<Settlement>) -> Effects {
        let settled = self.store.settle(batch.clone()).await.map_err(|e| e.to_string())?;
        same("settle", &self.model.settle(self.now_us, &batch), &settled)?;
        let effect = |settled: &Settled| match settled {
            Settled::Now => "settle",
            Settled::Unrecorded => "settle unrecorded",
            Settled::Already => "settle already",
            Settled::LeaseLost => "settle lost",
        };
        let effects = settled.iter().map(effect).collect();
        self.settled.extend(batch);
        Ok(effects)
    }

    async fn release(&mut self, first: u8, count: usize, delay: Duration) -> Effects {
        let picked = self.pick(first, count);
        let release = |claim: &Claim| Release { key: claim.key, delay };
        let batch: Vec<Release> = picked.iter().map(release).collect();
        let released = self.store.release(batch.clone()).await.map_err(|e| e.to_string())?;
        same("release", &self.model.release(self.now_us, &batch), &released)?;
        let mut effects = vec!["release"; released.min(1)];
        effects.extend(vec!["release lost"; (batch.len() - released).min(1)]);
        Ok(effects)
    }

    async fn reclaim(&mut self, reclaim: Reclaim, effect: &'static str) -> Effects {
        let reclaimed = self.store.reclaim(reclaim.clone()).await;
        let mut reclaimed = reclaimed.map_err(|e| e.to_string())?;
        reclaimed.sort_by_key(|lease| lease.key.id);
        same("reclaim", &self.model.reclaim(self.now_us, &reclaim), &reclaimed)?;
        let mut effects = vec![effect; reclaimed.len().min(1)];
        let deaths = reclaimed.iter().filter(|lease| lease.is_dead).count();
        effects.extend(vec!["reclaim to death"; deaths.min(1)]);
        let unrecorded = reclaimed.iter().filter(|lease| !lease.is_recorded).count();
        effects.extend(vec!["reclaim unrecorded"; unrecorded.min(1)]);
        Ok(effects)
    }

    /// Takes the lock and then inserts the row, like a worker process.
    async fn join(&mut self, worker: WorkerId) -> Effects {
        if self.joined.insert(worker) {
            let lock = "select pg_advisory_lock($1)";
            let lock = sqlx::query(lock).bind(worker.0);
            lock.execute(&mut *self.sessions).await.map_err(|e| e.to_string())?;
        }
        let register = "insert into workers (holder, server_started_at, registered_at)
            values ($1, pg_postmaster_start_time(), now()) on conflict do nothing";
        let register = sqlx::query(register).bind(worker.0);
        register.execute(&self.pool).await.map_err(|e| e.to_string())?;
        self.model.register(worker);
        Ok(vec!["join"])
    }

    /// Ends the session. The lock is released and the row stays.
    async fn vanish(&mut self, worker: WorkerId) -> Effects {
        if !self.joined.remove(&worker) {
            return Ok(vec![]);
        }
        let unlock = sqlx::query("select pg_advisory_unlock($1)").bind(worker.0);
        unlock.execute(&mut *self.sessions).await.map_err(|e| e.to_string())?;
        self.model.unlock(worker);
        Ok(vec!["vanish"])
    }
}
