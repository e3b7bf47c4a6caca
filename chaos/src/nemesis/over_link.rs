//! Shared parts of link faults: the harm, the choice of a link, and the observed effect.

use std::time::Duration;

use rand::RngExt;
use tokio::time::sleep;

use super::observed::{BEYOND_LEASE_MS_MAX, OUTAGE_ABANDONS_MAX};
use super::strike::Observed;
use super::world::World;
use crate::fault::{Aftermath, Harm, Kills, Link};
use crate::profile::Profile;
use crate::proxy::{Control, Direction, Effects, Proxy};
use crate::seed::Stream;
use crate::system::SystemError;

/// The declared harm of a link fault. The history narrows it to the ends of the links.
pub(super) const HARM: Harm = Harm {
    kills: Kills::Nothing,
    stops_workers: false,
    expires_leases: false,
    loses_settles: true,
    loses_presence: false,
    loses_requests: true,
    withholds_responses: false,
    exhausts_machine: false,
    logs_errors: false,
    denies_database: false,
    abandons_max: OUTAGE_ABANDONS_MAX,
    aftermath: Aftermath::Outage { beyond_lease_ms: BEYOND_LEASE_MS_MAX },
};

/// How long a fault waits for the first traffic that it affects.
pub(super) const TOUCHED: Duration = Duration::from_secs(4);

/// Draws one of all links.
pub(super) fn any_link(draws: &mut Stream, profile: &Profile) -> Link {
    let links = all_links(profile);
    links[draws.random_range(0..links.len())]
}

/// Draws a direction.
pub(super) fn any_direction(draws: &mut Stream) -> Direction {
    if draws.random_range(0..2) == 0 { Direction::Up } else { Direction::Down }
}

/// Every link of a run, the links to the database first.
pub(super) fn all_links(profile: &Profile) -> Vec<Link> {
    let to_postgres = (0..profile.workers).map(Link::ToPostgres);
    let to_apis = (0..profile.workers).map(Link::ToApi);
    let to_receivers = (0..profile.receivers).map(Link::ToReceiver);
    to_postgres.chain(to_apis).chain(to_receivers).collect()
}

impl<'a, S> World<'a, S> {
    /// The proxy of a link.
    ///
    /// # Errors
    /// `Unavailable` if the run has no proxy on this link.
    pub(super) fn link(&self, link: Link) -> Result<&'a Proxy, SystemError> {
        self.links.link(link).map_err(|why| SystemError::Unavailable { driver: "links", why })
    }
}

/// The error of a fault that was skipped because no traffic passed that it could affect.
pub(super) fn untouched(driver: &'static str, on: &str) -> SystemError {
    SystemError::Unavailable { driver, why: format!("no traffic for this fault passed on {on}") }
}

/// Sets a control on a link, and lets the link pass again this time after the control has affected
/// a connection.
///
/// # Errors
/// `Unavailable` if no traffic passed.
pub(super) async fn hold<S>(
    world: &World<'_, S>,
    link: Link,
    control: Control,
    for_ms: u64,
) -> Result<Observed, SystemError> {
    let proxy = world.link(link)?;
    proxy.set(control);
    if !proxy.sees(TOUCHED, has_touched).await {
        return Err(untouched("links", &link.to_string()));
    }
    let effective_us = world.recorder.now_us();
    sleep(Duration::from_millis(for_ms)).await;
    let effects = proxy.effects();
    proxy.set(Control::Pass);
    if let Control::Late { delay_ms, jitter_ms } = control {
        // The fault ends when the delayed bytes have arrived.
        sleep(Duration::from_millis(delay_ms + jitter_ms)).await;
    }
    Ok(Observed::seen(effective_us, summary(&effects)))
}

fn has_touched(effects: &Effects) -> bool {
    !effects.connections.is_empty()
}

/// Describes the effects of a control. Returns nothing if it affected no connection.
pub(super) fn summary(effects: &Effects) -> Option<String> {
    let mut parts = Vec::new();
    let mut count = |number: u64, what: &str| {
        if number > 0 {
            parts.push(format!("{number} {what}"));
        }
    };
    count(effects.late_pieces, "pieces late");
    count(effects.swallowed_bytes, "bytes swallowed");
    count(effects.resets, "connections reset");
    if let Some(statement) = effects.cut {
        parts.push(format!("cut after the commit of {statement}"));
    }
    let connections = effects.connections.len();
    has_touched(effects).then(|| format!("touched {connections} connections: {}", parts.join(", ")))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::collections::BTreeSet;

    use super::*;
    use crate::nemesis::{Fault, Schedule};
    use crate::proxy::Statement;
    use crate::seed::Seed;

    /// Enough seeds for each choice to be drawn.
    const SEEDS: u64 = 40;

    // A fault on a link that the run does not have could never take effect.
    #[test]
    fn link_faults_are_drawn_for_links_of_the_run() {
        let profile = Profile::network();
        let links: BTreeSet<Link> = all_links(&profile).into_iter().collect();
        let (mut drawn, mut outlives) = (BTreeSet::new(), BTreeSet::new());
        for number in 0..SEEDS {
            let schedule = Schedule::generate(Seed::new(number), &profile);
            assert!(schedule.needs_links());
            let text = schedule.to_text();
            assert_eq!(Schedule::from_text(&text).unwrap(), schedule);
            let mut replies = BTreeSet::new();
            for planned in &schedule.faults {
                match &planned.fault {
                    Fault::Latency(fault) => drawn.insert(fault.link),
                    Fault::OneWay(fault) => drawn.insert(fault.link),
                    Fault::Reset(fault) => drawn.insert(fault.link),
                    Fault::BlackHole(fault) => {
                        let beyond = fault.for_ms >= profile.settings.lease_ms;
                        outlives.insert((beyond, fault.half_open));
                        assert!(!beyond || matches!(fault.link, Link::ToPostgres(_)));
                        drawn.insert(fault.link)
                    }
                    Fault::CutCommit(fault) => replies.insert(fault.statement),
                    _ => false,
                };
            }
            let all = [Statement::Insert, Statement::Claim, Statement::Settle];
            assert_eq!(replies, BTreeSet::from(all));
        }
        assert_eq!(drawn, links);
        assert_eq!(outlives.len(), 4, "{outlives:?}");
    }
}
