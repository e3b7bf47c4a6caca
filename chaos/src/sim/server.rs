//! The server side of the calls of simulated workers.
//!
//! Each call is a separate task, like a Postgres backend. A statement that was sent is applied even
//! if its client is killed or times out first.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::sleep;

use super::context::SimContext;
use super::failpoint::{Call, Stage};
use super::state::SimState;

/// Latencies of one call, and the signal that its connection was cut.
pub(super) struct Route {
    pub(super) request: Duration,
    pub(super) reply: Duration,
    pub(super) connections_cut: Arc<Notify>,
}

/// The server side of one call.
pub(super) struct Server {
    pub(super) context: Arc<SimContext>,
    pub(super) process: usize,
    pub(super) life: u32,
    pub(super) call: Call,
    pub(super) route: Route,
    /// Additional delay before the call is applied, from a fault.
    pub(super) delay: Duration,
}

impl Server {
    pub(super) async fn serve<T>(
        self,
        transaction: impl FnOnce(&mut SimState, i64) -> T,
        reply: oneshot::Sender<T>,
    ) {
        let context = &self.context;
        let database_life = context.state().database_life;
        wait(self.route.request).await;
        wait_until_healed(context, self.delay).await;
        {
            let mut state = context.state();
            let is_claim = u32::from(self.call.makes_leases());
            state.processes[self.process].running_claims -= is_claim;
            // A crash of the database aborts the uncommitted transaction.
            if state.database_life != database_life {
                return;
            }
        }
        let result = context.commit(transaction);
        let failpoint = self.call.at(Stage::Applied);
        let effect = context.hit(self.process, self.life, failpoint);
        if effect.fails {
            return;
        }
        wait(self.route.reply).await;
        wait_until_healed(context, effect.delay).await;
        if context.state().database_life == database_life {
            // The client may have timed out or been killed. The commit stays.
            let _ = reply.send(result);
        }
    }
}

async fn wait(latency: Duration) {
    if !latency.is_zero() {
        sleep(latency).await;
    }
}

/// Waits for the delay of a fault, at most until all faults heal.
async fn wait_until_healed(context: &SimContext, delay: Duration) {
    if delay.is_zero() {
        return;
    }
    tokio::select! {
        biased;
        () = context.heal.cancelled() => {}
        () = sleep(delay) => {}
    }
}
