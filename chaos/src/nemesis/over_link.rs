//! What the faults of links share: which link, how long, and what was seen of it.

use std::time::Duration;

use rand::RngExt;
use tokio::time::sleep;

use super::{Applied, BEYOND_LEASE_MS_MAX, OUTAGE_ABANDONS_MAX, World};
use crate::fault::{Aftermath, Harm, Kills, Kind, Link, Target};
use crate::profile::Profile;
use crate::proxy::{Control, Direction, Effects, Proxy};
use crate::seed::Stream;
use crate::system::{System, SystemError};

/// The harm of a fault of a link, whatever the link.
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
    abandons_max: OUTAGE_ABANDONS_MAX,
    aftermath: Aftermath::Outage {
        beyond_lease_ms: BEYOND_LEASE_MS_MAX,
    },
};

/// How long is waited until something comes by that a fault can be done to.
pub(super) const TOUCHED: Duration = Duration::from_secs(4);

/// One of all links.
pub(super) fn any_link(draws: &mut Stream, profile: &Profile) -> Link {
    let links = all_links(profile);
    links[draws.random_range(0..links.len())]
}

/// One of both directions.
pub(super) fn any_direction(draws: &mut Stream) -> Direction {
    if draws.random_range(0..2) == 0 {
        Direction::Up
    } else {
        Direction::Down
    }
}

/// Every link of a run, those to the database first.
pub(super) fn all_links(profile: &Profile) -> Vec<Link> {
    let to_postgres = (0..profile.workers).map(Link::ToPostgres);
    let to_apis = (0..profile.workers).map(Link::ToApi);
    let to_receivers = (0..profile.receivers).map(Link::ToReceiver);
    to_postgres.chain(to_apis).chain(to_receivers).collect()
}

impl<'a, S> World<'a, S> {
    /// The link of a name, or that it cannot be had here.
    pub(super) fn link(&self, name: Link) -> Result<&'a Proxy, SystemError> {
        let link = self.links.link(name);
        link.map_err(|why| SystemError::Unavailable {
            driver: "links",
            why,
        })
    }
}

/// Says that a fault was not done because nothing came by that it could have been done to.
pub(super) fn untouched(driver: &'static str, on: &str) -> SystemError {
    SystemError::Unavailable {
        driver,
        why: format!("nothing that it is for came by on {on}"),
    }
}

/// The whole life of a fault that sets one control on one link, and lets it pass again after a time
/// that begins when the control has touched something. Where nothing comes by, there is no fault.
pub(super) async fn hold<S: System>(
    world: &World<'_, S>,
    (fault, kind): (u64, &Kind),
    (link, control): (Link, Control),
    for_ms: u64,
) -> Applied {
    let proxy = world.link(link)?;
    let begun = world.begin(fault, kind, Target::Links(vec![link]));
    proxy.set(control);
    if !proxy.sees(TOUCHED, has_touched).await {
        return Err(untouched("links", &link.to_string()));
    }
    let effective_us = world.recorder.now_us();
    sleep(Duration::from_millis(for_ms)).await;
    let effects = proxy.effects();
    proxy.set(Control::Pass);
    if let Control::Late {
        delay_ms,
        jitter_ms,
    } = control
    {
        // The fault is over when what it keeps has come through.
        sleep(Duration::from_millis(delay_ms + jitter_ms)).await;
    }
    world.effect(&begun, effective_us, Vec::new(), told(&effects));
    world.end(&begun);
    Ok(())
}

fn has_touched(effects: &Effects) -> bool {
    !effects.connections.is_empty()
}

/// What was seen of a control; nothing when it touched nothing.
pub(super) fn told(effects: &Effects) -> Option<String> {
    let mut told = Vec::new();
    let mut count = |number: u64, what: &str| {
        if number > 0 {
            told.push(format!("{number} {what}"));
        }
    };
    count(effects.late_pieces, "pieces late");
    count(effects.swallowed_bytes, "bytes swallowed");
    count(effects.resets, "connections reset");
    if let Some(statement) = effects.cut {
        told.push(format!("cut after the commit of {statement}"));
    }
    let connections = effects.connections.len();
    has_touched(effects).then(|| format!("touched {connections} connections: {}", told.join(", ")))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::collections::BTreeSet;

    use super::*;
    use crate::nemesis::Fault;
    use crate::proxy::Statement;
    use crate::schedule::Schedule;
    use crate::seed::Seed;

    /// Enough seeds for each choice to be drawn.
    const SEEDS: u64 = 40;

    #[test]
    fn faults_of_links_are_drawn_for_links_of_the_run_and_survive_the_text_of_their_plan() {
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
