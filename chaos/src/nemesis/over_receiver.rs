//! Shared part of the faults that change the behavior of receivers.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::over_link::{TOUCHED, untouched};
use super::strike::Observed;
use super::world::World;
use crate::switch::Switched;
use crate::system::SystemError;

/// Switches receivers for this time after the first request that the switch changed. The effect is
/// the number of such requests, with these words.
///
/// # Errors
/// `Unavailable` if no request was changed.
pub(super) async fn hold<S>(
    world: &World<'_, S>,
    receivers: &[u32],
    switched: Switched,
    for_ms: u64,
    what: &str,
) -> Result<Observed, SystemError> {
    let count = || -> u64 { receivers.iter().map(|r| world.switch.changed(*r)).sum() };
    let before = count();
    let changed = || count() - before;
    for receiver in receivers {
        world.switch.begin(*receiver, switched);
    }
    let until = Instant::now() + TOUCHED;
    if changed() == 0 && !world.recorder.sees(until, |_| changed() > 0).await {
        let names: Vec<String> = receivers.iter().map(|r| format!("r{r}")).collect();
        return Err(untouched("receivers", &names.join("+")));
    }
    let effective_us = world.recorder.now_us();
    sleep(Duration::from_millis(for_ms)).await;
    let seen = format!("{} {what}", changed());
    Ok(Observed::seen(effective_us, Some(seen)))
}

/// Ends the switch of these receivers. Idempotent.
pub(super) fn end<S>(world: &World<'_, S>, receivers: &[u32]) {
    for receiver in receivers {
        world.switch.end(*receiver);
    }
}
