//! Installs the trigger of the audit in one database and reads its rows.
//!
//! Each reading returns the transitions that no earlier reading returned. A failed reading loses
//! nothing, because the next one starts at the same transaction.

use std::collections::BTreeSet;
use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};
use tokio::time::timeout;
use uuid::Uuid;

use crate::history::op::Op;
use crate::history::transition::{Census, Counts, Step, Transition};
use crate::postgres;

/// Deadline of one statement. A paused server accepts connections and does not answer.
const STATEMENT_DEADLINE: Duration = Duration::from_secs(10);

const MISSING_COLUMNS: &str = include_str!("../audit_columns.sql");
const INSTALL: &str = include_str!("../audit.sql");

// All transactions before `horizon` had ended at this reading. The row exists even if the audit has
// no new row.
const NEW_ROWS: &str = "
select pg_snapshot_xmin(pg_current_snapshot())::text as horizon,
       t.transaction::text as of_transaction, t.*
from (values (1)) always left join chaos_audit.transitions t on t.transaction >= $1::xid8
order by t.number";

const CENSUS: &str = "
select count(*) as rows,
       count(*) filter (where status = 'pending' and lease_token is null) as pending,
       count(*) filter (where status = 'pending' and lease_token is not null) as leased,
       count(*) filter (where status = 'delivered') as delivered,
       count(*) filter (where status = 'dead') as dead
from public.webhook_events
where id not in (select event_id from chaos_audit.foreign_rows)";

/// A failed statement of the audit.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// Postgres cannot be reached, or refused the statement.
    #[error("the audit's database")]
    Postgres(#[from] sqlx::Error),
    /// The deadline passed.
    #[error("the audit's database did not answer within {} s", STATEMENT_DEADLINE.as_secs())]
    Silent,
}

/// The result of [`Audit::install`].
#[derive(Debug)]
pub enum Installation {
    /// The trigger is installed.
    Installed(Audit),
    /// The tables are not those of this project's dispatcher. The trigger would break their
    /// inserts.
    NotPossible {
        /// The missing tables or columns.
        reason: String,
    },
}

/// A reader of the audit table of one database.
#[derive(Debug)]
pub struct Audit {
    url: String,
    connection: Option<PgConnection>,
    /// All transactions before this one had ended at the last reading.
    horizon: u64,
    /// Rows at or after the horizon that were read already.
    seen: BTreeSet<i64>,
}

impl Audit {
    /// Installs the trigger if the database has the tables and columns that it reads.
    ///
    /// # Errors
    /// Returns an error if Postgres cannot be reached, refuses a statement, or does not answer.
    pub async fn install(url: &str) -> Result<Installation, AuditError> {
        within_deadline(Self::install_on(url)).await
    }

    async fn install_on(url: &str) -> Result<Installation, sqlx::Error> {
        let mut connection = postgres::connect(url).await?;
        let missing: Vec<String> =
            sqlx::query_scalar(MISSING_COLUMNS).fetch_all(&mut connection).await?;
        if !missing.is_empty() {
            let reason = format!("the database lacks {}", missing.join(", "));
            return Ok(Installation::NotPossible { reason });
        }
        sqlx::raw_sql(AssertSqlSafe(format!("begin; {INSTALL} commit;")))
            .execute(&mut connection)
            .await?;
        Ok(Installation::Installed(Self {
            url: url.to_owned(),
            connection: Some(connection),
            horizon: 0,
            seen: BTreeSet::new(),
        }))
    }

    /// Reads the transitions that were committed since the last reading, in commit order per event.
    ///
    /// # Errors
    /// Returns an error if Postgres does not answer. The next reading then returns the transitions.
    pub async fn read(&mut self) -> Result<Vec<Op>, AuditError> {
        let mut connection = self.take_connection().await?;
        let rows = sqlx::query(NEW_ROWS).bind(self.horizon.to_string()).fetch_all(&mut connection);
        let rows = within_deadline(rows).await?;
        self.connection = Some(connection);
        Ok(self.new_ops(&rows)?)
    }

    /// Reads the remaining transitions and counts all events, in one snapshot.
    ///
    /// # Errors
    /// Returns the errors of [`Audit::read`].
    pub async fn census(&mut self) -> Result<(Vec<Op>, Census), AuditError> {
        let mut connection = self.take_connection().await?;
        let both = async {
            let mut snapshot =
                connection.begin_with("begin isolation level repeatable read read only").await?;
            let rows = sqlx::query(NEW_ROWS)
                .bind(self.horizon.to_string())
                .fetch_all(&mut *snapshot)
                .await?;
            let census = sqlx::query(CENSUS).fetch_one(&mut *snapshot).await?;
            snapshot.commit().await?;
            Ok::<_, sqlx::Error>((rows, census))
        };
        let (rows, census) = within_deadline(both).await?;
        self.connection = Some(connection);
        Ok((self.new_ops(&rows)?, census_of(&census)?))
    }

    /// Takes the connection, or opens one. A failed statement does not put its connection back.
    async fn take_connection(&mut self) -> Result<PgConnection, AuditError> {
        if let Some(connection) = self.connection.take() {
            return Ok(connection);
        }
        within_deadline(postgres::connect(&self.url)).await
    }

    fn new_ops(&mut self, rows: &[PgRow]) -> Result<Vec<Op>, sqlx::Error> {
        let mut horizon = self.horizon;
        let mut seen = BTreeSet::new();
        let mut ops = Vec::new();
        for row in rows {
            horizon = transaction_number(row.try_get("horizon")?);
            let Some(number) = row.try_get::<Option<i64>, _>("number")? else {
                continue;
            };
            if transaction_number(row.try_get("of_transaction")?) >= horizon {
                seen.insert(number);
            }
            if !self.seen.contains(&number) {
                ops.push(transition_op(row)?);
            }
        }
        self.horizon = horizon;
        self.seen = seen;
        Ok(ops)
    }
}

async fn within_deadline<T>(
    statement: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, AuditError> {
    let result = timeout(STATEMENT_DEADLINE, statement).await;
    Ok(result.map_err(|_| AuditError::Silent)??)
}

fn transition_op(row: &PgRow) -> Result<Op, sqlx::Error> {
    let uuid = |name| row.try_get::<Option<Uuid>, _>(name);
    let count = |name| row.try_get::<i32, _>(name).map(i32::unsigned_abs);
    let step: String = row.try_get("step")?;
    let transition = Transition {
        id: row.try_get::<Uuid, _>("event_id")?.to_string(),
        target: row.try_get("target")?,
        attempt: count("attempt")?,
        token: uuid("token")?.map(|token| token.to_string()),
        held: uuid("held")?.map(|token| token.to_string()),
        holder: row.try_get::<Option<i64>, _>("holder")?.map(|holder| format!("{holder:016x}")),
        outcome: row.try_get("outcome")?,
        now_us: row.try_get("now_us")?,
        lease_until_us: row.try_get("lease_until_us")?,
        due_us: row.try_get("due_us")?,
        after: Counts {
            status: row.try_get("status")?,
            reason: row.try_get("reason")?,
            attempt_count: count("attempt_count")?,
            failure_count: count("failure_count")?,
            abandon_count: count("abandon_count")?,
            round: count("round")?,
        },
    };
    Ok(Op::of_transition(step_of(&step), transition))
}

fn step_of(name: &str) -> Step {
    match name {
        "accept" => Step::Accept,
        "claim" => Step::Claim,
        "release" => Step::Release,
        "reclaim" => Step::Reclaim,
        "cancel" => Step::Cancel,
        "replay" => Step::Replay,
        _ => Step::Settle,
    }
}

fn census_of(row: &PgRow) -> Result<Census, sqlx::Error> {
    let count = |name| row.try_get::<i64, _>(name).map(i64::unsigned_abs);
    Ok(Census {
        rows: count("rows")?,
        pending: count("pending")?,
        leased: count("leased")?,
        delivered: count("delivered")?,
        dead: count("dead")?,
    })
}

/// Parses a transaction number. sqlx has no type for `xid8`, so Postgres sends it as text.
fn transaction_number(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}
