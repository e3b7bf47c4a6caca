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
    /// meanwhile.
    pub(in crate::worker) fn share_permits(&mut self, now: Instant) {
        let (hand_off, all) = (self.parts.hand_off.clone(), self.config.in_flight_max);
        hand_off.share(|reserved| {
            let held = self.held();
            let free = all.saturating_sub(held + reserved);
            // An open claim holds its permits, and without a backlog it returns few events. Half is
            // left to fresh events.
            let claimable = if self.scheduler.is_deep() { free } else { free.div_ceil(2) };
            self.start_claiming(claimable, held, now);
            let is_open = !self.stop.is_cancelled() && !self.scheduler.is_resting(now);
            let holder = LeaseHolder { worker: self.parts.id, lease: self.config.lease };
            let is_deep = self.scheduler.is_deep();
            let held = held + self.scheduler.claiming();
            let permits = permits(all, held, self.handed.len(), is_deep);
            Room { holder: is_open.then_some(holder), permits }
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
        let Some(claimed_at) = batch.claimed_at else { return };
        let HandedOver { sent_at, received_at, claims, .. } = batch;
        let times = ClaimTimes { claimed_at, sent_at, received_at };
        self.parts.metrics.claimed.inc_by(claims.len() as u64);
        for HandedClaim { claim, host, reserved } in claims {
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

/// Permits for events that are handed over, of `all`. The worker holds or has requested `held`, and
/// events that were handed over hold `handed` of them. Beside a backlog they use at most half.
fn permits(all: usize, held: usize, handed: usize, is_deep: bool) -> usize {
    let left = all.saturating_sub(held);
    if is_deep { left.min((all / 2).saturating_sub(handed)) } else { left }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beside_a_backlog_hand_off_uses_half_of_the_permits() {
        assert_eq!(permits(10, 3, 0, false), 7);
        assert_eq!(permits(10, 11, 0, false), 0, "a search for orphans may add releases");
        assert_eq!(permits(10, 0, 0, true), 5);
        assert_eq!(permits(10, 8, 4, true), 1, "handed over events hold four");
        assert_eq!(permits(10, 9, 0, true), 1, "claimed events hold nine");
    }
}
