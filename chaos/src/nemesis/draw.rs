//! How faults are drawn: as many of a kind as the profile asks for, spread over the storm.

use rand::RngExt;

use super::{Fault, PlannedFault, Sight, Trigger};
use crate::fault::Kind;
use crate::profile::Profile;
use crate::seed::{Seed, Stream};

/// How long a trigger waits for what it wants to see, in milliseconds.
const WITHIN_MS: u64 = 4_000;

/// The faults of one kind, one in each equal slice of the middle of the storm. Each kind has a stream
/// of its own, so that one kind's draws move nothing of another's.
pub(super) fn spread(
    seed: Seed,
    profile: &Profile,
    kind: &Kind,
    mut fault: impl FnMut(&mut Stream) -> (Sight, Fault),
) -> Vec<PlannedFault> {
    let count = profile.count_of(seed, kind);
    let mut draws = seed.stream(&format!("nemesis/{}", kind.name));
    let begin = profile.storm_ms / 10;
    let slice = (profile.storm_ms - begin) / u64::from(count.max(1)) + 1;
    let plan = |number: u32| {
        let at_ms = begin + slice * u64::from(number) + draws.random_range(0..slice);
        let (on, fault) = fault(&mut draws);
        let trigger = Trigger {
            at_ms,
            on,
            within_ms: WITHIN_MS,
        };
        PlannedFault { trigger, fault }
    };
    (0..count).map(plan).collect()
}
