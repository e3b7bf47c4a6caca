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
    /// Starts the claims that are due and publishes the rest of the permits. The API reserves none
    /// in between.
    pub(in crate::worker) fn share_permits(&mut self, now: Instant) {
        let hand_off = self.parts.hand_off.clone();
        let mut room = hand_off.lock_room();
        let permits = self.config.in_flight_max;
        let held = self.held();
        let free = permits.saturating_sub(held + room.reserved());
        self.start_claiming(free, held, now);
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
        if batch.is_lost {
            self.orphans.lost(batch.claimed_at.map(|at| at - MARGIN), now);
        }
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
