//! The store of the simulated workers: calls with latency and faults over the model store.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use dispatcher::event::{
    ClaimKey, EventId, LeaseHolder, LeaseToken, NewEvent, Release, Settled, Settlement, WorkerId,
};
use dispatcher::host::HostKey;
use dispatcher::store::{
    ClaimLimit, Claimed, Inserted, InsertedRows, NewRow, OwnLeases, Reclaim, Reclaimed, Store,
    StoreError,
};
use rand::RngExt;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::clock::unix_us;
use super::context::SimContext;
use super::failpoint::{Call, Stage};
use super::inject::CallEffect;
use super::mutant::Mutant;
use super::server::{Route, Server};
use super::state::SimState;
use crate::seed::Seed;

/// Maximum wait of an API request for the store.
const ACCEPT_TIMEOUT: Duration = Duration::from_millis(1_500);
/// Maximum wait of a worker for one statement.
const WORK_TIMEOUT: Duration = Duration::from_secs(5);

/// The store client of one life of one process.
#[derive(Clone)]
pub(super) struct SimStore {
    pub(super) context: Arc<SimContext>,
    pub(super) process: usize,
    pub(super) life: u32,
}

impl SimStore {
    fn mutant(&self) -> Option<&'static dyn Mutant> {
        self.context.mutant
    }

    /// Sends one call, which the server applies in one transaction, and waits for the reply.
    async fn call<T: Send + 'static>(
        &self,
        call: Call,
        transaction: impl FnOnce(&mut SimState, i64) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let effect = self.hit(call, Stage::Sent).await;
        if effect.fails {
            return Err(not_applied(call));
        }
        let Some(route) = self.route() else {
            return Err(unavailable(call));
        };
        let connections_cut = Arc::clone(&route.connections_cut);
        let (sender, reply) = oneshot::channel();
        let server = Server {
            context: Arc::clone(&self.context),
            process: self.process,
            life: self.life,
            call,
            route,
            delay: effect.delay,
        };
        let is_claim = u32::from(call.makes_leases());
        self.context.state().processes[self.process].running_claims += is_claim;
        tokio::spawn(server.serve(transaction, sender));
        let deadline = if call == Call::Insert { ACCEPT_TIMEOUT } else { WORK_TIMEOUT };
        let result = tokio::select! {
            biased;
            reply = reply => reply.map_err(|_| unknown(call, "the connection was lost")),
            () = connections_cut.notified() => Err(unknown(call, "the connection was cut")),
            () = sleep(deadline) => Err(unknown(call, "no answer in time")),
        };
        let effect = self.hit(call, Stage::Replied).await;
        if effect.fails {
            return Err(unknown(call, "the reply was lost"));
        }
        result
    }

    /// Reserves permits that are never returned, if the mutant does so.
    fn lose_permits(&self) {
        let is_losing = self.mutant().is_some_and(|mutant| mutant.loses_permits());
        let hand_off = self.context.state().processes[self.process].hand_off.clone();
        let Some(hand_off) = hand_off.filter(|_| is_losing) else {
            return;
        };
        let host = HostKey::from("lost");
        let all = 0..self.context.schedule.settings.max_in_flight;
        let mut reserved: Vec<_> = all.map(|_| None).collect();
        let mut rng = Seed::new(hand_off.reserved() as u64).stream("lost permits");
        let places = reserved.iter_mut().map(|place| (&host, place));
        hand_off.reserve(places, Instant::now(), &mut rng);
        std::mem::forget(reserved);
    }

    /// Hits a failpoint as the client. Never returns if the process is killed; waits if it is
    /// paused.
    pub(super) async fn hit(&self, call: Call, stage: Stage) -> CallEffect {
        let effect = self.context.hit(self.process, self.life, call.at(stage));
        if effect.dies {
            std::future::pending::<()>().await;
        }
        if effect.pauses {
            wait_while_paused(&self.context, self.process).await;
        }
        effect
    }

    /// Draws the latencies of a call. Returns none if the database is unreachable.
    fn route(&self) -> Option<Route> {
        let most_ms = self.context.schedule.store_ms_max;
        let mut state = self.context.state();
        let is_down = state.database_outages > 0;
        let process = &mut state.processes[self.process];
        if is_down || process.store_cuts > 0 {
            return None;
        }
        let mut draw = || Duration::from_millis(process.latencies.random_range(0..=most_ms));
        Some(Route {
            request: draw(),
            reply: draw(),
            connections_cut: Arc::clone(&process.connections_cut),
        })
    }
}

/// Waits until the process is not paused.
///
/// A request to the API is a separate task, so a pause of its process does not stop its polling.
pub(super) async fn wait_while_paused(context: &Arc<SimContext>, process: usize) {
    loop {
        let resumed = {
            let state = context.state();
            let process = &state.processes[process];
            if process.pauses == 0 {
                return;
            }
            Arc::clone(&process.resumed)
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

/// Returns true for a third of all events: their rows are the ones that a fault refuses.
fn is_refused(event: &NewEvent) -> bool {
    event.id.0.as_u128().is_multiple_of(3)
}

/// 23514: a check constraint refuses a row.
fn refused_data(call: Call) -> StoreError {
    StoreError::Refused {
        operation: call.name(),
        sqlstate: "23514".into(),
        reason: "a check constraint is violated".into(),
    }
}

fn unavailable(call: Call) -> StoreError {
    StoreError::Unavailable { operation: call.name(), reason: "connection refused".into() }
}

fn unknown(call: Call, reason: &str) -> StoreError {
    StoreError::Unknown { operation: call.name(), reason: reason.into() }
}

impl Store for SimStore {
    async fn insert(
        &self,
        events: &[NewRow<'_>],
        holder: Option<LeaseHolder>,
    ) -> Result<InsertedRows, StoreError> {
        let mutant = self.mutant();
        let ids: Vec<EventId> = events.iter().map(|row| row.event.id).collect();
        let worker_us = unix_us(self.context.now_us());
        let rows: Vec<_> = events.iter().map(|row| (row.event.clone(), row.token)).collect();
        let insert = move |state: &mut SimState, now_us| {
            if state.refuses_data && rows.iter().any(|(event, _)| is_refused(event)) {
                return Err(refused_data(Call::Insert));
            }
            let insert_one = |(event, token): &(NewEvent, Option<LeaseToken>)| {
                if let Some(forged) = mutant.and_then(|m| m.insert(&mut state.model, event)) {
                    return forged;
                }
                let inserted = state.model.insert(now_us, event, holder.zip(*token));
                if let Some(mutant) = mutant {
                    mutant.inserted(&mut state.model, worker_us, event);
                }
                inserted
            };
            let events = rows.iter().map(insert_one).collect();
            Ok(InsertedRows {
                now: DateTime::from_timestamp_micros(now_us).unwrap_or_default(),
                events,
            })
        };
        if mutant.is_some_and(|mutant| mutant.commits_later()) {
            let store = self.clone();
            tokio::spawn(async move { store.call(Call::Insert, insert).await });
            let now = DateTime::from_timestamp_micros(unix_us(self.context.now_us()));
            let events = ids.into_iter().map(Inserted::Accepted).collect();
            return Ok(InsertedRows { now: now.unwrap_or_default(), events });
        }
        let result = self.call(Call::Insert, insert).await.and_then(|inserted| inserted);
        self.lose_permits();
        match (result, mutant) {
            (Err(error), Some(mutant)) => mutant.insert_failed(&ids, error),
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
        let percent = self.context.schedule.partial_claims_percent;
        let worker_us = unix_us(self.context.now_us());
        self.call(Call::Claim, move |state, now_us| {
            if let Some(mutant) = mutant {
                mutant.before_claim(&mut state.model, now_us);
            }
            let chosen = state.choose(now_us, limit, percent);
            let mut claimed = state.model.claim(now_us, holder, lease, chosen);
            if let Some(mutant) = mutant {
                mutant.claimed(&mut state.model, worker_us, &mut claimed);
            }
            claimed
        })
        .await
    }

    async fn payload_piece(
        &self,
        key: ClaimKey,
        _: usize,
        _: usize,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        unreachable!("claims of the model return every payload, also that of {key:?}")
    }

    async fn next_due(&self, after: DateTime<Utc>) -> Result<Option<Duration>, StoreError> {
        let after_us = after.timestamp_micros();
        self.call(Call::NextDue, move |state, now_us| state.model.next_due(now_us, after_us)).await
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<Settled>, StoreError> {
        let mutant = self.mutant();
        let settled = self.call(Call::Settle, move |state, now_us| {
            let mut errors = settlements.iter().map(|settlement| &settlement.result.error);
            if state.refuses_data && errors.any(Option::is_some) {
                return Err(refused_data(Call::Settle));
            }
            let Some(mutant) = mutant else {
                return Ok(state.model.settle(now_us, &settlements));
            };
            let mut batch = settlements.clone();
            mutant.before_settle(&mut state.model, now_us, &mut batch);
            let mut results = state.model.settle(now_us, &batch);
            mutant.settled(&mut state.model, now_us, &settlements);
            // Settlements that the mutant dropped are reported as written.
            results.resize(settlements.len(), Settled::Now);
            Ok(results)
        });
        match (settled.await?, mutant) {
            (Err(error), Some(mutant)) => Err(mutant.refused(error)),
            (settled, _) => settled,
        }
    }

    async fn release(&self, releases: Vec<Release>) -> Result<usize, StoreError> {
        let mutant = self.mutant();
        self.call(Call::Release, move |state, now_us| {
            let released = state.model.release(now_us, &releases);
            if let Some(mutant) = mutant {
                mutant.released(&mut state.model, &releases);
            }
            released
        })
        .await
    }

    async fn own_leases(
        &self,
        worker: WorkerId,
        due_from: Option<DateTime<Utc>>,
    ) -> Result<OwnLeases, StoreError> {
        let (process, mutant) = (self.process, self.mutant());
        self.call(Call::OwnLeases, move |state, _| {
            let found = OwnLeases {
                keys: state.model.own_leases(worker, due_from),
                may_grow: state.processes[process].running_claims > 0,
            };
            match mutant {
                Some(mutant) => mutant.own_leases(found),
                None => found,
            }
        })
        .await
    }

    async fn absent_workers(&self, own: WorkerId) -> Result<Vec<WorkerId>, StoreError> {
        let mutant = self.mutant();
        self.call(Call::Absent, move |state, _| match mutant {
            Some(mutant) => mutant.absent(&state.model, own),
            None => state.model.absent_workers(own),
        })
        .await
    }

    async fn reclaim(&self, reclaim: Reclaim) -> Result<Vec<Reclaimed>, StoreError> {
        let mutant = self.mutant();
        self.call(Call::Reclaim, move |state, now_us| {
            let Some(mutant) = mutant else {
                return state.model.reclaim(now_us, &reclaim);
            };
            let mut now_us = now_us;
            if !mutant.before_reclaim(&mut state.model, &mut now_us, &reclaim) {
                return Vec::new();
            }
            let reclaimed = state.model.reclaim(now_us, &reclaim);
            mutant.reclaimed(&mut state.model, &reclaim, &reclaimed);
            reclaimed
        })
        .await
    }

    async fn forget(&self, holder: WorkerId) -> Result<(), StoreError> {
        self.call(Call::Forget, move |state, _| state.model.forget(holder)).await
    }
}
