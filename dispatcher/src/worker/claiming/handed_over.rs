//! Handed over events: publishes what this worker can take, and receives the events that the API of
//! this process stored with its lease.

use std::time::Duration;

use rand::Rng;
use tokio::time::Instant;

use super::super::completion::{ClaimTimes, ClaimedEvent};
use super::super::state::Worker;
use crate::event::LeaseHolder;
use crate::hand_off::{HandedClaim, HandedOver, Room};
use crate::host::HostKey;
use crate::store::{Presence, Store};
use crate::transport::Transport;

/// The clock of the database may step back a little between two batches.
const MARGIN: Duration = Duration::from_secs(2);

impl<S: Store, P: Presence, T: Transport, R: Rng + Send + 'static> Worker<S, P, T, R> {
    /// Starts the claims that are due and publishes the rest of the permits. The lock is held
    /// throughout, so the API reserves none meanwhile.
    pub(in crate::worker) fn share_permits(&mut self, now: Instant) {
        let hand_off = self.parts.hand_off.clone();
        let mut room = hand_off.lock_room();
        let permits = self.config.in_flight_max;
        let held = self.held();
        let free = permits.saturating_sub(held + room.reserved());
        // An open claim holds its permits, and without a backlog it returns few events. Half is
        // left to fresh events.
        let claimable = if self.scheduler.is_deep() { free } else { free.div_ceil(2) };
        self.start_claiming(claimable, held, now);
        let is_open = !self.stop.is_cancelled() && !self.scheduler.is_resting(now);
        let holder = LeaseHolder { worker: self.parts.id, lease: self.config.lease };
        room.set(Room {
            holder: is_open.then_some(holder),
            permits,
            held: held + self.claiming,
            handed: self.handed.len(),
            is_deep: self.scheduler.is_deep(),
        });
    }

    pub(in crate::worker) fn on_handed_over(&mut self, batch: HandedOver) {
        let now = Instant::now();
        if !batch.lost.is_empty() {
            self.orphans.lost(batch.claimed_at.map(|at| at - MARGIN), now);
            // From here on their tokens are unknown, so the search finds their leases.
            drop(batch.lost);
        }
        // Only a lost or failed batch has no time, and it has no events.
        let Some(claimed_at) = batch.claimed_at else {
            return;
        };
        let times = ClaimTimes {
            claimed_at,
            sent_at: batch.sent_at,
            received_at: batch.received_at,
            lease: self.config.lease,
        };
        self.parts.metrics.claimed.inc_by(batch.claims.len() as u64);
        for HandedClaim { claim, host, reserved } in batch.claims {
            self.tokens.insert(reserved.token);
            self.handed.insert(reserved.token);
            reserved.received();
            let key = HostKey::clone(&host);
            if !self.admit(ClaimedEvent { claim, host, times }) {
                self.parts.hand_off.host_refused(&key, now);
            }
        }
    }
}
