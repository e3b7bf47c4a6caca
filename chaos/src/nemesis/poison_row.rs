//! Rows that an operator edited: their next attempt has a number that is recorded already.
//!
//! Endangers: the leases of other events, if one row makes a whole batch fail, and processes that
//! exit by an error of the database. One row is due, and one has an expired lease of a worker that
//! does not exist. No client posted them, and no audit records them. The dispatcher must log them
//! at level ERROR. The rows stay until the end of the run. The effect is that one was claimed and
//! that the lease of the other has ended.

use std::time::Duration;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::foreign_rows;
use super::observed::BEYOND_LEASE_MS_MAX;
use super::outage::{connect, over_in, refused};
use super::strike::{Draw, Observed, Start, Strike};
use super::world::World;
use crate::fault::{Aftermath, Family, Harm, Kills, Kind, Needs, Target};
use crate::plan::{Condition, PlannedFault};
use crate::system::{System, SystemError};

/// Maximum number of rows of each kind.
const ROWS_MAX: i32 = 3;
/// How long the dispatcher may take to claim the rows and to end their leases, beyond a lease, in
/// milliseconds. Reclaims of expired leases wait for 5 s after an outage.
const HANDLED_MS: u64 = 15_000;
/// Time between two queries.
const LOOK: Duration = Duration::from_millis(100);
/// The attempt that each row will make next is recorded already.
const RECORD: &str = "
insert into delivery_attempts (event_id, number, token, started_at, outcome)
select id, 1, gen_random_uuid(), clock_timestamp(), 'abandoned' from unnest($1) as id";

/// Poisoned rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoisonRow {
    /// Number of rows that are due.
    pub due: i32,
    /// Number of rows with an expired lease.
    pub leased: i32,
}

impl Strike for PoisonRow {
    const KIND: Kind = Kind {
        name: "postgres.poison_row",
        family: Family::Postgres,
        about: "rows edited by an operator, so that their next attempt is recorded already",
        needs: Needs::OWN_POSTGRES,
        harm: Harm {
            kills: Kills::Nothing,
            stops_workers: false,
            expires_leases: false,
            loses_settles: false,
            loses_presence: false,
            loses_requests: false,
            withholds_responses: false,
            exhausts_machine: false,
            logs_errors: true,
            denies_database: false,
            abandons_max: 0,
            aftermath: Aftermath::Nothing,
        },
    };

    fn draw(draw: &Draw<'_>) -> Vec<PlannedFault<Self>> {
        draw.spread(|draws| {
            let poison = Self {
                due: draws.random_range(1..=ROWS_MAX),
                leased: draws.random_range(1..=ROWS_MAX),
            };
            (Condition::Time, poison)
        })
    }

    fn target(&self) -> Target {
        Target::Postgres
    }

    async fn strike<S: System>(
        &self,
        world: &mut World<'_, S>,
        start: &Start,
    ) -> Result<Observed, SystemError> {
        let lease_ms = world.settings.lease_ms;
        let mut session = connect(world).await?;
        let failed = |error| refused("poisoning rows", &error);
        sqlx::raw_sql("begin").execute(&mut session).await.map_err(failed)?;
        let due = foreign_rows::insert(&mut session, self.due, foreign_rows::unchanged()).await?;
        let expired = json!({
            "attempt_count": 1, "holder": 1, "lease_token": Uuid::new_v4(),
            "lease_until": "2000-01-01T00:00:01Z", "claimed_at": "2000-01-01T00:00:00Z",
        });
        let leased = foreign_rows::insert(&mut session, self.leased, expired).await?;
        let all: Vec<Uuid> = due.iter().chain(&leased).copied().collect();
        foreign_rows::hide(&mut session, &all).await?;
        let record = sqlx::query(RECORD).bind(&all).execute(&mut session).await;
        record.map_err(failed)?;
        sqlx::raw_sql("commit").execute(&mut session).await.map_err(failed)?;
        let until = over_in(lease_ms + BEYOND_LEASE_MS_MAX + HANDLED_MS);
        let (mut claimed, mut ended) = (0, 0);
        while Instant::now() < until && (claimed < due.len() || ended < leased.len()) {
            sleep(LOOK).await;
            claimed = foreign_rows::count(&mut session, &due, "attempt_count > 0").await?;
            ended = foreign_rows::count(&mut session, &leased, "abandon_count + failure_count > 0")
                .await?;
        }
        let (of_due, of_leased) = (due.len(), leased.len());
        let seen = format!(
            "{claimed} of {of_due} due rows were claimed, {ended} of {of_leased} leases ended"
        );
        let is_handled = claimed == of_due && ended == of_leased;
        Ok(Observed::seen(start.at_us, is_handled.then_some(seen)))
    }

    async fn heal<S: System>(&self, _: &mut World<'_, S>) -> Result<(), SystemError> {
        // The rows stay, as those of an operator do.
        Ok(())
    }
}
