//! A server that grants the dispatcher fewer connections than its pools want.
//!
//! Endangers: presence and claims, if posts take the granted connections, and the 503 in time. The
//! harness holds the other connections of the server and ends the sessions above the limit. The
//! effect is that the server refuses one more client.

use std::time::Duration;

use futures_util::future::join_all;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use tokio::time::{Instant, sleep};

use super::outage::{HARM, connect, end_sessions, heal_server, over_in, refused, sessions};
use super::strike::{Draw, Observed, Start, Strike};
use super::world::World;
use crate::fault::{Family, Kind, Needs, Target};
use crate::plan::{Condition, PlannedFault};
use crate::postgres::APPLICATION;
use crate::system::{System, SystemError};

/// Fewest connections per worker. Presence, a claim and a post need one each.
const GRANTED_MIN: u32 = 3;
/// Most connections per worker. If the workers use fewer, the rest is taken from them.
const GRANTED_MAX: u32 = 6;
/// Shortest duration, in milliseconds. It exceeds the time that an event may wait meanwhile.
const FOR_MS_MIN: u64 = 4_000;
/// Longest duration, in milliseconds.
const FOR_MS_MAX: u64 = 6_000;
/// Maximum time until the other connections are held, in milliseconds.
const TAKE_MS_MAX: u64 = 10_000;
/// Time between two attempts to take connections.
const GRAB: Duration = Duration::from_millis(50);

/// Few connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FewConnections {
    /// Most connections that are left to all workers together.
    pub granted: u32,
    /// Duration, in milliseconds.
    pub for_ms: u64,
}

impl Strike for FewConnections {
    const KIND: Kind = Kind {
        name: "postgres.few_connections",
        family: Family::Postgres,
        about: "fewer connections are granted than the pools want, and the others are ended",
        needs: Needs::OWN_POSTGRES,
        harm: HARM,
    };

    fn draw(draw: &Draw<'_>) -> Vec<PlannedFault<Self>> {
        draw.spread(|draws| {
            let few = Self {
                granted: draw.profile.workers * draws.random_range(GRANTED_MIN..=GRANTED_MAX),
                for_ms: draws.random_range(FOR_MS_MIN..=FOR_MS_MAX),
            };
            (Condition::OpenRequests(draw.profile.workers), few)
        })
    }

    fn target(&self) -> Target {
        Target::Connections
    }

    async fn strike<S: System>(
        &self,
        world: &mut World<'_, S>,
        _: &Start,
    ) -> Result<Observed, SystemError> {
        let mut granted = self.granted as usize;
        let granted_min = GRANTED_MIN as usize * world.workers.len();
        let mut watch = connect(world).await?;
        let available = for_clients(&mut watch).await?;
        let mut held = Vec::new();
        let mut refusal = None;
        let taken_by = over_in(TAKE_MS_MAX);
        let mut until = over_in(self.for_ms);
        let mut effective_us = world.recorder.now_us();
        while Instant::now() < until {
            let wanted = available.saturating_sub(granted);
            if held.len() < wanted && Instant::now() < taken_by {
                let others = sessions(&mut watch).await?;
                end_sessions(&mut watch, &others[granted.min(others.len())..]).await?;
                let own = world.own_server()?;
                let more = join_all((held.len()..wanted).map(|_| own.session())).await;
                // A session that has to end keeps its place for a moment, and one more is refused.
                held.extend(more.into_iter().filter_map(Result::ok));
                // The duration begins when the other connections are held.
                effective_us = world.recorder.now_us();
                until = over_in(self.for_ms);
            } else if refusal.is_none() {
                let used = sessions(&mut watch).await?.len();
                if used >= granted {
                    refusal = world.own_server()?.refusal().await;
                } else {
                    // A worker with little load does not use all of them.
                    granted = used.max(granted_min);
                }
            }
            sleep(GRAB).await;
        }
        let left = sessions(&mut watch).await?.len();
        let seen = refusal.map(|why| {
            format!("{granted} connections granted, {left} used at the end; one more: {why}")
        });
        Ok(Observed::seen(effective_us, seen))
    }

    async fn heal<S: System>(&self, world: &mut World<'_, S>) -> Result<(), SystemError> {
        heal_server(world).await
    }
}

/// The number of connections of the server that the harness does not use.
async fn for_clients(watch: &mut PgConnection) -> Result<usize, SystemError> {
    let sql = "select current_setting('max_connections')::bigint - count(*) from pg_stat_activity
        where backend_type = 'client backend' and application_name = $1";
    let count = sqlx::query_scalar::<_, i64>(sql).bind(APPLICATION);
    let count = count.fetch_one(watch).await;
    let count = count.map_err(|error| refused("counting connections", &error))?;
    Ok(usize::try_from(count).unwrap_or(0))
}
