//! A deep backlog of one healthy target: thousands of due events of one quick receiver.
//!
//! Endangers: isolation, if the events that are due first take every permit. The receiver belongs
//! to the fault, and no event of the plan has it as its target. No client posted the rows, and no
//! audit records them. Those that are left at the end are deleted. The effect is the number of
//! events that were delivered beside the plan.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::PgConnection;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, sleep_until};
use uuid::Uuid;

use mock_receiver::{Behavior, Journal, Receiver, Secrets};

use super::foreign_rows;
use super::observed::BEYOND_LEASE_MS_MAX;
use super::outage::{connect, over_in, refused};
use super::strike::{Draw, Observed, Start, Strike};
use super::world::World;
use crate::fault::{Aftermath, Family, Harm, Kills, Kind, Needs, Target};
use crate::plan::{Condition, PlannedFault};
use crate::system::{System, SystemError};

/// Fewest events. Two workers with 64 permits per host need at least 3.5 s for them.
const EVENTS_MIN: i32 = 3_000;
/// Most events.
const EVENTS_MAX: i32 = 5_000;
/// Shortest time until the receiver responds, in milliseconds. With a shorter one, the deliveries
/// would use up the processors of a small machine, and leases could expire.
const RESPONSE_MS_MIN: u64 = 150;
/// Longest time until the receiver responds, in milliseconds.
const RESPONSE_MS_MAX: u64 = 300;
/// Shortest duration, in milliseconds. It exceeds the time that other events may wait.
const FOR_MS_MIN: u64 = 3_000;
/// Longest duration, in milliseconds.
const FOR_MS_MAX: u64 = 4_000;
/// Time between two deletions, until no event has a lease.
const AGAIN: Duration = Duration::from_millis(50);

/// A deep backlog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeepBacklog {
    /// Number of events.
    pub events: i32,
    /// Time until the receiver responds, in milliseconds.
    pub response_ms: u64,
    /// Duration, in milliseconds.
    pub for_ms: u64,
}

impl Strike for DeepBacklog {
    const KIND: Kind = Kind {
        name: "receiver.deep_backlog",
        family: Family::Receiver,
        about: "one more receiver, which is quick, has thousands of due events",
        needs: Needs::OWN_POSTGRES,
        harm: Harm {
            kills: Kills::Nothing,
            stops_workers: false,
            expires_leases: false,
            loses_settles: false,
            loses_presence: false,
            denies_database: false,
            loses_requests: false,
            withholds_responses: false,
            exhausts_machine: false,
            logs_errors: false,
            abandons_max: 0,
            aftermath: Aftermath::Nothing,
        },
    };

    fn draw(draw: &Draw<'_>) -> Vec<PlannedFault<Self>> {
        draw.spread(|draws| {
            let backlog = Self {
                events: draws.random_range(EVENTS_MIN..=EVENTS_MAX),
                response_ms: draws.random_range(RESPONSE_MS_MIN..=RESPONSE_MS_MAX),
                for_ms: draws.random_range(FOR_MS_MIN..=FOR_MS_MAX),
            };
            (Condition::Time, backlog)
        })
    }

    fn target(&self) -> Target {
        Target::OtherReceiver
    }

    async fn strike<S: System>(
        &self,
        world: &mut World<'_, S>,
        _: &Start,
    ) -> Result<Observed, SystemError> {
        let failed = |error| refused("inserting a backlog", &error);
        let receiver = self.receiver(world).await?;
        let mut session = connect(world).await?;
        sqlx::raw_sql("begin").execute(&mut session).await.map_err(failed)?;
        let target = json!({ "target_url": format!("http://{}/webhook", receiver.address()) });
        let ids = foreign_rows::insert(&mut session, self.events, target).await?;
        foreign_rows::hide(&mut session, &ids).await?;
        sqlx::raw_sql("commit").execute(&mut session).await.map_err(failed)?;
        let effective_us = world.recorder.now_us();
        sleep_until(over_in(self.for_ms)).await;
        let is_delivered = "status = 'delivered'";
        let delivered = foreign_rows::count(&mut session, &ids, is_delivered).await?;
        delete(&mut session, &ids, world.settings.lease_ms).await?;
        receiver.stop().await;
        let (events, for_ms) = (ids.len(), self.for_ms);
        let seen = format!(
            "{events} due events of one receiver, {delivered} of them delivered in {for_ms} ms"
        );
        Ok(Observed::seen(effective_us, (delivered > 0).then_some(seen)))
    }

    async fn heal<S: System>(&self, _: &mut World<'_, S>) -> Result<(), SystemError> {
        // The strike has deleted the rows and stopped the receiver.
        Ok(())
    }
}

impl DeepBacklog {
    /// Starts the receiver, whose requests the history does not record.
    async fn receiver<S>(&self, world: &World<'_, S>) -> Result<Receiver, SystemError> {
        let failed = |source| SystemError::Os { doing: "starting a receiver".to_owned(), source };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
        let secrets = world.workers.iter().find_map(|worker| worker.env.get("WEBHOOK_SECRET"));
        let secrets: Option<Secrets> = secrets.and_then(|secret| secret.parse().ok());
        let secrets = secrets.expect("the plan gives each worker a secret of the right form");
        let response =
            Behavior::Answer { status: 200, retry_after: None, after_ms: self.response_ms };
        let script = Arc::new(move |_: &mock_receiver::Seen| response.clone());
        Ok(Receiver::start(listener, secrets, script, Journal::disabled()))
    }
}

/// Deletes the rows. Those with a lease are deleted when it has ended, so that workers can settle
/// their attempts.
async fn delete(
    session: &mut PgConnection,
    ids: &[Uuid],
    lease_ms: u64,
) -> Result<(), SystemError> {
    let failed = |error| refused("deleting a backlog", &error);
    let delete = "delete from webhook_events where id = any($1) and lease_token is null";
    let mut left = ids.len() as u64;
    let until = over_in(lease_ms + BEYOND_LEASE_MS_MAX);
    while left > 0 && Instant::now() < until {
        let deleted = sqlx::query(delete).bind(ids).execute(&mut *session).await;
        left -= deleted.map_err(failed)?.rows_affected().min(left);
        sleep(AGAIN).await;
    }
    let attempts = sqlx::query("delete from delivery_attempts where event_id = any($1)").bind(ids);
    attempts.execute(session).await.map_err(failed)?;
    Ok(())
}
