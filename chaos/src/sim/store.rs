//! The store as workers of the simulation see it: calls that travel, commit, and may go wrong.
//!
//! The server side of a call is a task of its own, as in the real world: a client that dies does not
//! take back what it has sent, and a client that gives up may be obeyed later.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use dispatcher::event::{EventId, NewEvent, Release, Settled, Settlement, WorkerId};
use dispatcher::store::{
    ClaimLimit, Claimed, Inserted, Presence, Reclaim, Reclaimed, Store, StoreError,
};
use rand::RngExt;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::fault::{Call, Stage};
use super::mutant::Mutant;
use super::world::{Core, Effect, World};

/// A request to the API waits this long for the store at most.
const ACCEPT_TIMEOUT: Duration = Duration::from_millis(1_500);
/// A worker waits this long for one statement.
const WORK_TIMEOUT: Duration = Duration::from_secs(5);

/// The store, seen from one life of one process.
#[derive(Clone)]
pub(super) struct SimStore {
    pub(super) world: Arc<World>,
    pub(super) host: usize,
    pub(super) life: u32,
}

/// What one call did, once it was committed; none when it was never applied.
type Reply<T> = oneshot::Sender<T>;

impl SimStore {
    fn mutant(&self) -> Option<&'static dyn Mutant> {
        self.world.mutant
    }

    /// One call: it leaves, it is applied in one transaction, its reply comes back, or not.
    async fn call<T: Send + 'static>(
        &self,
        call: Call,
        transaction: impl FnOnce(&mut Core, i64) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let effect = self.pass(call, Stage::Sent).await;
        if effect.fails {
            return Err(not_applied(call));
        }
        let Some((there, back, cut)) = self.way() else {
            return Err(unavailable(call));
        };
        let (reply, answer) = oneshot::channel();
        let server = Server {
            client: self.clone(),
            call,
            there,
            late: effect.late,
            back,
        };
        tokio::spawn(server.serve(transaction, reply));
        let deadline = if call == Call::Insert {
            ACCEPT_TIMEOUT
        } else {
            WORK_TIMEOUT
        };
        let result = tokio::select! {
            biased;
            answer = answer => answer.map_err(|_| unknown(call, "the connection was lost")),
            () = cut.notified() => Err(unknown(call, "the connection was cut")),
            () = sleep(deadline) => Err(unknown(call, "no answer in time")),
        };
        let effect = self.pass(call, Stage::Replied).await;
        if effect.fails {
            return Err(unknown(call, "the reply was lost"));
        }
        result
    }

    /// Passes a point as the client: it may die here, or stand still here.
    async fn pass(&self, call: Call, stage: Stage) -> Effect {
        let effect = self.world.pass(self.host, self.life, call.at(stage));
        if effect.dies {
            std::future::pending::<()>().await;
        }
        if effect.pauses {
            stand_still(&self.world, self.host).await;
        }
        effect
    }

    /// How long the way there and back takes, if there is a way.
    fn way(&self) -> Option<(Duration, Duration, Arc<tokio::sync::Notify>)> {
        let most = self.world.plan.store_ms_max;
        let mut core = self.world.core();
        let down = core.database_down > 0;
        let host = &mut core.hosts[self.host];
        if down || host.store_cut > 0 {
            return None;
        }
        let mut draw = || Duration::from_millis(host.latencies.random_range(0..=most));
        let (there, back) = (draw(), draw());
        Some((there, back, Arc::clone(&host.cut)))
    }
}

/// The server's side of one call.
struct Server {
    client: SimStore,
    call: Call,
    there: Duration,
    /// How much later a fault makes it: until then, or until everything heals.
    late: Duration,
    back: Duration,
}

impl Server {
    async fn serve<T>(self, transaction: impl FnOnce(&mut Core, i64) -> T, reply: Reply<T>) {
        let world = &self.client.world;
        let database_life = world.core().database_life;
        rest(self.there).await;
        lag(world, self.late).await;
        // A crash takes with it what was not committed.
        if world.core().database_life != database_life {
            return;
        }
        let done = world.commit(transaction);
        let point = self.call.at(Stage::Applied);
        let effect = world.pass(self.client.host, self.client.life, point);
        if effect.fails {
            return;
        }
        rest(self.back).await;
        lag(world, effect.late).await;
        if world.core().database_life == database_life {
            // The client may have given up or died; what is done is done.
            let _ = reply.send(done);
        }
    }
}

async fn rest(time: Duration) {
    if !time.is_zero() {
        sleep(time).await;
    }
}

/// As late as a fault makes it, but no longer than the faults last.
async fn lag(world: &World, late: Duration) {
    if late.is_zero() {
        return;
    }
    tokio::select! {
        biased;
        () = world.heal.cancelled() => {}
        () = sleep(late) => {}
    }
}

/// Gives way until the process goes on.
pub(super) async fn stand_still(world: &Arc<World>, host: usize) {
    // Inside the worker one turn is enough: the process is not polled while it stands still. A
    // request to the API is a task of its own and must wait.
    loop {
        let resumed = {
            let core = world.core();
            let host = &core.hosts[host];
            if host.paused == 0 {
                return;
            }
            Arc::clone(&host.resumed)
        };
        resumed.notified().await;
    }
}

fn not_applied(call: Call) -> StoreError {
    StoreError::Refused {
        operation: call.name(),
        sqlstate: "40P01".into(),
        reason: "deadlock detected".into(),
    }
}

fn unavailable(call: Call) -> StoreError {
    StoreError::Unavailable {
        operation: call.name(),
        reason: "connection refused".into(),
    }
}

fn unknown(call: Call, reason: &str) -> StoreError {
    StoreError::Unknown {
        operation: call.name(),
        reason: reason.into(),
    }
}

impl Store for SimStore {
    async fn insert(&self, event: NewEvent) -> Result<Inserted, StoreError> {
        let mutant = self.mutant();
        let accepted = event.id;
        let inserted = self
            .call(Call::Insert, move |core, now_us| {
                if let Some(lie) = mutant.and_then(|m| m.insert(&mut core.model, &event)) {
                    return lie;
                }
                let inserted = core.model.insert(now_us, &event);
                if let Some(mutant) = mutant {
                    mutant.inserted(&mut core.model, &event);
                }
                inserted
            })
            .await;
        match (inserted, mutant) {
            (Err(error), Some(mutant)) => mutant.insert_failed(accepted, error),
            (inserted, _) => inserted,
        }
    }

    async fn claim(
        &self,
        holder: WorkerId,
        lease: Duration,
        limit: ClaimLimit,
    ) -> Result<Claimed, StoreError> {
        let mutant = self.mutant();
        let percent = self.world.plan.partial_claims_percent;
        let worker_us = super::world::unix_us(self.world.now_us());
        self.call(Call::Claim, move |core, now_us| {
            if let Some(mutant) = mutant {
                mutant.before_claim(&mut core.model, now_us);
            }
            let chosen = choose(core, now_us, limit, percent);
            let mut claimed = core.model.claim(now_us, holder, lease, chosen);
            if let Some(mutant) = mutant {
                mutant.claimed(&mut core.model, worker_us, &mut claimed);
            }
            claimed
        })
        .await
    }

    async fn next_due(&self, after: DateTime<Utc>) -> Result<Option<Duration>, StoreError> {
        let after_us = after.timestamp_micros();
        self.call(Call::NextDue, move |core, now_us| {
            core.model.next_due(now_us, after_us)
        })
        .await
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<Settled>, StoreError> {
        let mutant = self.mutant();
        self.call(Call::Settle, move |core, now_us| {
            let Some(mutant) = mutant else {
                return core.model.settle(now_us, &settlements);
            };
            let mut batch = settlements.clone();
            mutant.before_settle(&mut core.model, now_us, &mut batch);
            let mut answers = core.model.settle(now_us, &batch);
            mutant.settled(&mut core.model, now_us, &settlements);
            // What a mutant held back is answered as if it had been written.
            answers.resize(settlements.len(), Settled::Now);
            answers
        })
        .await
    }

    async fn release(&self, releases: Vec<Release>) -> Result<usize, StoreError> {
        let mutant = self.mutant();
        self.call(Call::Release, move |core, now_us| {
            let released = core.model.release(now_us, &releases);
            if let Some(mutant) = mutant {
                mutant.released(&mut core.model, &releases);
            }
            released
        })
        .await
    }

    async fn absent_workers(&self, own: WorkerId) -> Result<Vec<WorkerId>, StoreError> {
        let mutant = self.mutant();
        self.call(Call::Absent, move |core, _| match mutant {
            Some(mutant) => mutant.absent(&core.model, own),
            None => core.model.absent_workers(own),
        })
        .await
    }

    async fn reclaim(&self, reclaim: Reclaim) -> Result<Vec<Reclaimed>, StoreError> {
        let mutant = self.mutant();
        self.call(Call::Reclaim, move |core, now_us| {
            let Some(mutant) = mutant else {
                return core.model.reclaim(now_us, &reclaim);
            };
            let mut now_us = now_us;
            if !mutant.before_reclaim(&mut core.model, &mut now_us, &reclaim) {
                return Vec::new();
            }
            let reclaimed = core.model.reclaim(now_us, &reclaim);
            mutant.reclaimed(&mut core.model, &reclaim, &reclaimed);
            reclaimed
        })
        .await
    }

    async fn forget(&self, holder: WorkerId) -> Result<(), StoreError> {
        self.call(Call::Forget, move |core, _| core.model.forget(holder))
            .await
    }
}

impl Presence for SimStore {
    async fn held(&self) {
        self.pass(Call::Present, Stage::Sent).await;
        loop {
            let presence = {
                let core = self.world.core();
                let host = &core.hosts[self.host];
                if host.present {
                    break;
                }
                Arc::clone(&host.presence)
            };
            presence.notified().await;
        }
    }

    fn renew(&self) {
        let mut core = self.world.core();
        let host = &core.hosts[self.host];
        if host.life == self.life && host.present {
            core.lose_presence(self.host);
            core.take_presence(self.host);
        }
    }
}

/// What a claim takes: the earliest due, or any part of them, as rows that others have locked are
/// passed over.
fn choose(
    core: &mut Core,
    now_us: i64,
    limit: ClaimLimit,
    percent: u32,
) -> Vec<(EventId, dispatcher::event::LeaseToken)> {
    let from_us = limit.due_from.map(|from| from.timestamp_micros());
    let mut due = core.model.claimable(now_us, from_us);
    if percent > 0 && core.draws.random_range(0..100) < percent {
        due.retain(|_| core.draws.random_range(0..2) == 0);
    }
    due.truncate(limit.events);
    let mut bytes = 0;
    due.retain(|id| {
        let fits = bytes < limit.bytes;
        bytes += core.model.rows[id].payload.len();
        fits
    });
    due.into_iter().map(|id| (id, core.token())).collect()
}
