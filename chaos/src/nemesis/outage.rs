//! What the faults of Postgres share: how long one lasts, whom it spares, and how all of them are healed.

use std::time::Duration;

use rand::RngExt;
use sqlx::PgConnection;
use tokio::time::{Instant, sleep_until};

use super::{Applied, BEYOND_LEASE_MS_MAX, OUTAGE_ABANDONS_MAX, World};
use crate::environment::Server;
use crate::fault::{Aftermath, Harm, Kills, Kind, Target};
use crate::postgres::{APPLICATION, OwnServer, OwnServerError};
use crate::profile::Profile;
use crate::seed::Stream;
use crate::system::{System, SystemError};

/// The harm of a fault of the database server.
pub(super) const HARM: Harm = Harm {
    kills: Kills::Nothing,
    stops_workers: false,
    expires_leases: false,
    loses_settles: true,
    loses_presence: false,
    loses_requests: false,
    withholds_responses: false,
    exhausts_machine: false,
    logs_errors: false,
    abandons_max: OUTAGE_ABANDONS_MAX,
    aftermath: Aftermath::Outage {
        beyond_lease_ms: BEYOND_LEASE_MS_MAX,
    },
};

/// Of three outages, this many last for longer than a lease.
const PAST_THE_LEASE_OF_3: u32 = 1;
/// The shortest outage, in milliseconds.
const OUTAGE_MS_MIN: u64 = 200;
/// The SQLSTATE of a table that is not there, as with another product.
const UNDEFINED_TABLE: &str = "42P01";

/// How long the database is away, in milliseconds.
pub(super) fn outage_ms(draws: &mut Stream, profile: &Profile) -> u64 {
    let lease_ms = profile.settings.lease_ms;
    if draws.random_range(0..3) < PAST_THE_LEASE_OF_3 {
        lease_ms + draws.random_range(OUTAGE_MS_MIN..=BEYOND_LEASE_MS_MAX)
    } else {
        draws.random_range(OUTAGE_MS_MIN..=(lease_ms / 2).max(OUTAGE_MS_MIN))
    }
}

/// When an outage that begins now and lasts so many milliseconds is over.
pub(super) fn over_in(ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(ms)
}

/// Undoes whatever was done to the server, and waits until it takes sessions. Harmless when nothing was.
pub(super) async fn heal<S: System>(world: &mut World<'_, S>) -> Applied {
    // One that is not the run's own was never touched.
    match world.server {
        Server::Own(own) => Ok(own.bring_up().await?),
        Server::Shared { .. } => Ok(()),
    }
}

/// The whole life of a fault that ends the server as `end` does it and leaves it down for a while.
pub(super) async fn go_down<S: System>(
    world: &mut World<'_, S>,
    (fault, kind): (u64, &Kind),
    down_ms: u64,
    end: impl AsyncFnOnce(&mut OwnServer) -> Result<(), OwnServerError>,
) -> Applied {
    world.own_server()?;
    let begun = world.begin(fault, kind, Target::Postgres);
    end(world.own_server()?).await?;
    let effective_us = world.recorder.now_us();
    let observed = sit_out(world, over_in(down_ms)).await?;
    world.effect(&begun, effective_us, Vec::new(), observed);
    world.end(&begun);
    Ok(())
}

/// Waits until the end of an outage in which no client may connect, heals it, and gives what was seen of it.
pub(super) async fn sit_out<S: System>(
    world: &mut World<'_, S>,
    until: Instant,
) -> Result<Option<String>, SystemError> {
    let refusal = world.own_server()?.refusal().await;
    sleep_until(until).await;
    heal(world).await?;
    Ok(refusal.map(|why| format!("a client could not connect: {why}")))
}

/// The sessions that belong to others than the harness: faults on sessions spare its own.
pub(super) async fn sessions(watch: &mut PgConnection) -> Result<Vec<i32>, SystemError> {
    let others = "select pid from pg_stat_activity
        where backend_type = 'client backend' and application_name <> $1 order by backend_start, pid";
    let others = sqlx::query_scalar(others).bind(APPLICATION);
    let others = others.fetch_all(watch).await;
    others.map_err(|error| refused("reading who is connected", &error))
}

/// The server did not do what a fault needs of it; a fault on tables that it has not cannot be done here.
pub(super) fn refused(doing: &'static str, error: &sqlx::Error) -> SystemError {
    let code = error.as_database_error().and_then(|answer| answer.code());
    let why = error.to_string();
    if code.as_deref() == Some(UNDEFINED_TABLE) {
        let driver = "postgres";
        return SystemError::Unavailable { driver, why };
    }
    OwnServerError::Failed { doing, why }.into()
}
