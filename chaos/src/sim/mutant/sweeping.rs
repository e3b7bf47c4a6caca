//! Mistakes in ending the leases of others.

use dispatcher::event::WorkerId;
use dispatcher::store::{Reclaim, ReclaimCause, Reclaimed};

use super::Mutant;
use crate::sim::model::Model;

/// Ends no lease but its own.
pub(super) struct NeverReclaims;

impl Mutant for NeverReclaims {
    fn before_reclaim(&self, _: &mut Model, _: &mut i64, _: &Reclaim) -> bool {
        false
    }
}

/// Ends leases that have some time to go.
pub(super) struct ReclaimsEarly;

impl Mutant for ReclaimsEarly {
    fn before_reclaim(&self, _: &mut Model, now_us: &mut i64, _: &Reclaim) -> bool {
        *now_us += 5_000_000;
        true
    }
}

/// Takes every other worker for gone.
pub(super) struct TakesTheLivingForGone;

impl Mutant for TakesTheLivingForGone {
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

/// Does not count an attempt whose worker vanished: one that kills its worker would go on for ever.
pub(super) struct CountsNoAbandonment;

impl Mutant for CountsNoAbandonment {
    fn reclaimed(&self, model: &mut Model, _: &Reclaim, reclaimed: &[Reclaimed]) {
        for lease in reclaimed {
            if let Some(row) = model.rows.get_mut(&lease.key.id) {
                row.counts.abandon_count = 0;
            }
        }
    }
}

/// Forgets a lease together with its event.
pub(super) struct DropsTheAbandoned;

impl Mutant for DropsTheAbandoned {
    fn reclaimed(&self, model: &mut Model, _: &Reclaim, reclaimed: &[Reclaimed]) {
        for lease in reclaimed {
            model.rows.remove(&lease.key.id);
        }
    }
}
