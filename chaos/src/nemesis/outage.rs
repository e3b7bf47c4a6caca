//! Shared parts of Postgres faults: the harm, the duration, the sessions that are spared, the heal.

use std::time::Duration;

use rand::RngExt;
use sqlx::PgConnection;
use tokio::time::{Instant, sleep_until};

use super::observed::{BEYOND_LEASE_MS_MAX, OUTAGE_ABANDONS_MAX};
use super::world::World;
use crate::environment::Server;
use crate::fault::{Aftermath, Harm, Kills};
use crate::postgres::{APPLICATION, OwnServerError};
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
    denies_database: false,
    abandons_max: OUTAGE_ABANDONS_MAX,
    aftermath: Aftermath::Outage { beyond_lease_ms: BEYOND_LEASE_MS_MAX },
};

/// Of three outages, this number outlasts a lease.
const PAST_THE_LEASE_OF_3: u32 = 1;
/// Shortest outage, in milliseconds.
const OUTAGE_MS_MIN: u64 = 200;
/// SQLSTATE of a missing table. A dispatcher of another product has other tables.
const UNDEFINED_TABLE: &str = "42P01";

/// Draws the duration of an outage, in milliseconds.
pub(super) fn outage_ms(draws: &mut Stream, profile: &Profile) -> u64 {
    let lease_ms = profile.settings.lease_ms;
    if draws.random_range(0..3) < PAST_THE_LEASE_OF_3 {
        lease_ms + draws.random_range(OUTAGE_MS_MIN..=BEYOND_LEASE_MS_MAX)
    } else {
        draws.random_range(OUTAGE_MS_MIN..=(lease_ms / 2).max(OUTAGE_MS_MIN))
    }
}

/// The end of an outage that begins now.
pub(super) fn over_in(ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(ms)
}

/// Undoes every fault of the server, and waits until it accepts sessions. Idempotent.
pub(super) async fn heal_server<S: System>(world: &mut World<'_, S>) -> Result<(), SystemError> {
    // No fault touches a shared server.
    match world.server {
        Server::Own(own) => Ok(own.bring_up().await?),
        Server::Shared { .. } => Ok(()),
    }
}

/// Waits until the end of an outage in which no client can connect. Returns the refusal of a
/// connection that the harness tried.
pub(super) async fn sit_out<S: System>(
    world: &mut World<'_, S>,
    until: Instant,
) -> Result<Option<String>, SystemError> {
    let refusal = world.own_server()?.refusal().await;
    sleep_until(until).await;
    Ok(refusal.map(|why| format!("a client could not connect: {why}")))
}

/// Connects to the server of the main section.
pub(super) async fn connect<S>(world: &mut World<'_, S>) -> Result<PgConnection, SystemError> {
    let session = world.own_server()?.session().await;
    session.map_err(|error| refused("connecting", &error))
}

/// The process ids of the sessions that do not belong to the harness, oldest first.
pub(super) async fn sessions(watch: &mut PgConnection) -> Result<Vec<i32>, SystemError> {
    let others = "select pid from pg_stat_activity
        where backend_type = 'client backend' and application_name <> $1 order by backend_start, pid";
    let others = sqlx::query_scalar(others).bind(APPLICATION);
    let others = others.fetch_all(watch).await;
    others.map_err(|error| refused("reading who is connected", &error))
}

/// Ends sessions with `pg_terminate_backend`, and returns how many ended.
pub(super) async fn end_sessions(
    watch: &mut PgConnection,
    pids: &[i32],
) -> Result<i64, SystemError> {
    let end = "select count(*) from unnest($1) as pid where pg_terminate_backend(pid)";
    let ended = sqlx::query_scalar(end).bind(pids).fetch_one(watch).await;
    ended.map_err(|error| refused("ending sessions", &error))
}

/// Executes statements one after the other, each in its own transaction.
pub(super) async fn run_all(
    session: &mut PgConnection,
    statements: &'static [&'static str],
) -> Result<(), SystemError> {
    for statement in statements {
        let ran = sqlx::raw_sql(*statement).execute(&mut *session).await;
        ran.map_err(|error| refused("changing the server", &error))?;
    }
    Ok(())
}

/// The error of a statement that a fault needs. A missing table makes the fault unavailable.
pub(super) fn refused(doing: &'static str, error: &sqlx::Error) -> SystemError {
    let code = error.as_database_error().and_then(|answer| answer.code());
    let why = error.to_string();
    if code.as_deref() == Some(UNDEFINED_TABLE) {
        let driver = "postgres";
        return SystemError::Unavailable { driver, why };
    }
    OwnServerError::Failed { doing, why }.into()
}
