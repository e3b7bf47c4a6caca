//! Mutants of the reclaim.

use dispatcher::event::WorkerId;
use dispatcher::store::{Reclaim, ReclaimCause, Reclaimed};

use super::Mutant;
use crate::sim::model::Model;

/// Never ends the lease of another worker.
pub(super) struct NeverReclaims;

impl Mutant for NeverReclaims {
    fn before_reclaim(&self, _: &mut Model, _: &mut i64, _: &Reclaim) -> bool {
        false
    }
}

/// Ends leases 5 s before they expire.
pub(super) struct ReclaimsEarly;

impl Mutant for ReclaimsEarly {
    fn before_reclaim(&self, _: &mut Model, now_us: &mut i64, _: &Reclaim) -> bool {
        *now_us += 5_000_000;
        true
    }
}

/// Treats every registered worker as exited.
pub(super) struct ReclaimsFromLive;

impl Mutant for ReclaimsFromLive {
    fn absent(&self, model: &Model, _: WorkerId) -> Vec<WorkerId> {
        model.registered()
    }

    fn before_reclaim(&self, model: &mut Model, _: &mut i64, reclaim: &Reclaim) -> bool {
        if let ReclaimCause::Gone(holder) = reclaim.cause {
            model.unlock(holder);
        }
        true
    }

    fn reclaimed(&self, model: &mut Model, reclaim: &Reclaim, _: &[Reclaimed]) {
        if let ReclaimCause::Gone(holder) = reclaim.cause {
            model.register(holder);
        }
    }
}

/// Does not count abandoned attempts. An event that kills its worker would be retried forever.
pub(super) struct AbandonsUncounted;

impl Mutant for AbandonsUncounted {
    fn reclaimed(&self, model: &mut Model, _: &Reclaim, reclaimed: &[Reclaimed]) {
        for lease in reclaimed {
            if let Some(row) = model.rows.get_mut(&lease.key.id) {
                row.counts.abandon_count = 0;
            }
        }
    }
}

/// Deletes an event with its abandoned lease.
pub(super) struct DeletesAbandoned;

impl Mutant for DeletesAbandoned {
    fn reclaimed(&self, model: &mut Model, _: &Reclaim, reclaimed: &[Reclaimed]) {
        for lease in reclaimed {
            model.rows.remove(&lease.key.id);
        }
    }
}
