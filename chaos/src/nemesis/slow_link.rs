//! Links to the database with a limited rate, while large events are accepted and claimed.
//!
//! Endangers: claims that fetch large payloads with those of small events. They run into their
//! timeout, and then no event is claimed. A large event on such a link may delay only itself and
//! other large ones, which `isolation` judges. The effect is that the limit delayed more bytes than
//! a large payload has.

use futures_util::future::join_all;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use tokio::time::{sleep_until, timeout_at};

use super::client_event::{event, first_ordinal, key};
use super::observed::OUTAGE_ABANDONS_MAX;
use super::outage::over_in;
use super::strike::{Draw, Observed, Start, Strike};
use super::world::World;
use crate::fault::{Aftermath, Family, Harm, Kills, Kind, Link, Needs, Target};
use crate::plan::{Condition, PlannedEvent, PlannedFault};
use crate::proxy::Control;
use crate::system::{System, SystemError};

/// Size of a large payload, in bytes. The dispatcher fetches one over 256 KiB after its claim.
const LARGE_BYTES: usize = 400_000;
/// Fewest large events. They are claimed together and fetched one after the other.
const LARGE_MIN: u32 = 10;
/// Most large events.
const LARGE_MAX: u32 = 16;
/// Shortest time for one large payload, in percent of the time that a lease leaves for it.
const SHARE_PERCENT_MIN: u64 = 8;
/// Longest time for one large payload, in percent of that time. If one takes half of it, the
/// dispatcher delays the event for a minute.
const SHARE_PERCENT_MAX: u64 = 12;
/// How long the links stay slow at most, in milliseconds.
const FOR_MS_MAX: u64 = 8_000;
/// Delay of an event whose payload came too late for its lease, in milliseconds.
const RELEASED_MS: u64 = 60_000;

/// Slow links to the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlowLink {
    /// Number of workers, all of whose links are slow.
    pub workers: u32,
    /// The rate of each direction of each connection, in bytes per millisecond.
    pub bytes_per_ms: u32,
    /// Ordinal of the first large event. The others follow.
    pub ordinal: u64,
    /// The receiver that is their target, from 0.
    pub receiver: u32,
    /// Number of large events.
    pub large: u32,
}

impl Strike for SlowLink {
    const KIND: Kind = Kind {
        name: "net.slow_link",
        family: Family::Network,
        about: "links to the database with a limited rate, while large events are accepted",
        needs: Needs::LINKS,
        harm: Harm {
            kills: Kills::Nothing,
            stops_workers: false,
            expires_leases: false,
            loses_settles: true,
            loses_presence: false,
            denies_database: false,
            loses_requests: false,
            withholds_responses: false,
            exhausts_machine: false,
            logs_errors: false,
            abandons_max: OUTAGE_ABANDONS_MAX,
            aftermath: Aftermath::LargeEvents { for_ms: RELEASED_MS },
        },
    };

    fn draw(draw: &Draw<'_>) -> Vec<PlannedFault<Self>> {
        let settings = &draw.profile.settings;
        let available_ms = settings.lease_ms.saturating_sub(settings.http_timeout_ms);
        let mut numbers = 0..;
        draw.spread(|draws| {
            let number = numbers.next().expect("the range has no end");
            let share = draws.random_range(SHARE_PERCENT_MIN..=SHARE_PERCENT_MAX);
            let each_ms = (available_ms * share / 100).max(1);
            let rate = LARGE_BYTES as u64 / each_ms;
            let slow = Self {
                workers: draw.profile.workers,
                bytes_per_ms: u32::try_from(rate).unwrap_or(u32::MAX).max(1),
                ordinal: first_ordinal(draw.kinds, &Self::KIND, number),
                receiver: draws.random_range(0..draw.profile.receivers),
                large: draws.random_range(LARGE_MIN..=LARGE_MAX),
            };
            (Condition::Time, slow)
        })
    }

    fn target(&self) -> Target {
        Target::Links(self.links().collect())
    }

    fn events(&self) -> u64 {
        u64::from(self.large)
    }

    async fn strike<S: System>(
        &self,
        world: &mut World<'_, S>,
        start: &Start,
    ) -> Result<Observed, SystemError> {
        let mut proxies = Vec::new();
        for link in self.links() {
            proxies.push(world.link(link)?);
        }
        for proxy in &proxies {
            proxy.set(Control::Slow { bytes_per_ms: self.bytes_per_ms });
        }
        let until = over_in(FOR_MS_MAX);
        let events: Vec<PlannedEvent> = (self.ordinal..self.ordinal + self.events())
            .map(|ordinal| self.large(ordinal))
            .collect();
        let posts = events.iter().map(|event| world.workload.post_until_answered(event));
        let posts = join_all(posts);
        tokio::pin!(posts);
        let late_bytes = || -> u64 { proxies.iter().map(|proxy| proxy.effects().late_bytes).sum() };
        let mut late_before = 0;
        tokio::select! {
            biased;
            _ = &mut posts => {}
            () = sleep_until(until) => {
                // The posts of a slow dispatcher need the end of the limit.
                late_before = late_bytes();
                proxies.iter().for_each(|proxy| proxy.set(Control::Pass));
                posts.await;
            }
        }
        let mut changed = world.recorder.changed();
        let arrived =
            || events.iter().filter(|event| world.recorder.is_received(event.ordinal)).count();
        while arrived() < events.len() && timeout_at(until, changed.changed()).await.is_ok() {}
        let late_bytes = late_before + late_bytes();
        let (arrived, all, rate) = (arrived(), events.len(), self.bytes_per_ms);
        let seen = format!(
            "{late_bytes} bytes passed at {rate} bytes per ms, {arrived} of {all} large events \
             arrived meanwhile"
        );
        let has_passed = late_bytes >= LARGE_BYTES as u64;
        Ok(Observed::seen(start.at_us, has_passed.then_some(seen)))
    }

    async fn heal<S: System>(&self, world: &mut World<'_, S>) -> Result<(), SystemError> {
        for link in self.links() {
            world.links.heal(link);
        }
        Ok(())
    }
}

impl SlowLink {
    fn links(&self) -> impl Iterator<Item = Link> {
        (0..self.workers).map(Link::ToPostgres)
    }

    fn large(&self, ordinal: u64) -> PlannedEvent {
        let small = event(ordinal, self.receiver, Some(key(ordinal)));
        PlannedEvent { payload: format!("\"{}\"", "x".repeat(LARGE_BYTES)), ..small }
    }
}
