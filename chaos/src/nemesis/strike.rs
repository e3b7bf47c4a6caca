//! The contract of a fault, and how the faults of one kind are spread over the storm.

use rand::RngExt;

use super::world::World;
use crate::fault::{Kind, Target};
use crate::plan::{Condition, PlannedFault, Trigger};
use crate::profile::Profile;
use crate::seed::{Seed, Stream};
use crate::system::{System, SystemError};

pub(super) use super::observed::{Observed, Start, Stopped};

/// How long a trigger condition is awaited, in milliseconds.
const WITHIN_MS: u64 = 4_000;

/// A fault of the real tier. One file implements it, and `faults!` in `nemesis.rs` registers it.
///
/// A fault records nothing: the nemesis writes its start, its effect, its end and the exits of
/// workers.
pub(super) trait Strike: Sized {
    /// Name, family, description, needs and harm.
    const KIND: Kind;

    /// Draws every fault of this kind. All values come from the seed, so that a schedule is plain
    /// data.
    fn draw(draw: &Draw<'_>) -> Vec<PlannedFault<Self>>;

    /// The parts of the system to which this fault is done.
    fn target(&self) -> Target;

    /// The number of events that the fault posts in addition to the plan.
    fn events(&self) -> u64 {
        0
    }

    /// Injects the fault, holds it if its effect shows only with time, and returns its observed
    /// effect.
    ///
    /// # Errors
    /// `Unavailable` if the fault cannot be injected now: it is skipped with the reason. Any other
    /// error ends the run.
    async fn strike<S: System>(
        &self,
        world: &mut World<'_, S>,
        start: &Start,
    ) -> Result<Observed, SystemError>;

    /// Ends the fault. Idempotent: it is called after each strike, and for every fault before the
    /// drain.
    async fn heal<S: System>(&self, world: &mut World<'_, S>) -> Result<(), SystemError>;
}

/// The input of a draw.
pub(super) struct Draw<'p> {
    /// The seed of the run.
    pub(super) seed: Seed,
    /// The profile of the run.
    pub(super) profile: &'p Profile,
    /// Every kind of the real tier.
    pub(super) kinds: &'static [Kind],
}

impl Draw<'_> {
    /// Draws the faults of one kind, one in each equal slice of the storm after its first tenth.
    /// Each kind has its own stream, so that the draws of one kind do not change those of another.
    pub(super) fn spread<F: Strike>(
        &self,
        mut fault: impl FnMut(&mut Stream) -> (Condition, F),
    ) -> Vec<PlannedFault<F>> {
        let Self { seed, profile, .. } = *self;
        let count = profile.count_of(seed, &F::KIND);
        let mut draws = seed.stream(&format!("nemesis/{}", F::KIND.name));
        let begin = profile.storm_ms / 10;
        let slice = (profile.storm_ms - begin) / u64::from(count.max(1)) + 1;
        let plan = |number: u32| {
            let at_ms = begin + slice * u64::from(number) + draws.random_range(0..slice);
            let (on, fault) = fault(&mut draws);
            let trigger = Trigger { at_ms, on, within_ms: WITHIN_MS };
            PlannedFault { trigger, fault }
        };
        (0..count).map(plan).collect()
    }
}
