//! The audit: what Postgres itself committed of each event, by a trigger that the harness installs.
//!
//! Each transition is a row that commits with the change (`audit.sql`). A follower reads them while the
//! run goes on and places each in the history *after* whatever it may rest on: a line's place and time
//! are those of the reading, held back once more, so that no line of the audit can seem to come before
//! the receipt that it follows from. They may only be late, never early, by [`LATE_US_MAX`] while
//! Postgres answers. Between events, and against clients and receivers, their order says nothing else.
//!
//! A settle that is refused by its token changes no row, and no trigger sees it.

use std::collections::BTreeSet;
use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::history::op::Op;
use crate::history::transition::{Census, Counts, Step, Transition};
use crate::postgres;
use crate::recorder::Recorder;

/// Time between two readings, in milliseconds.
const LOOK_MS: u64 = 500;
/// How late a transition may appear in the history while Postgres answers, in microseconds: it is
/// committed just after a reading, and read once more before it is written down.
pub const LATE_US_MAX: u64 = 2 * LOOK_MS * 1_000;
/// How long one reading may take, in seconds: a paused server lets connections in and says nothing.
const READ: Duration = Duration::from_secs(10);
/// How often the last reading is tried before the run has no verdict.
const LAST_READS_MAX: u32 = 5;

const INSTALL: &str = include_str!("audit.sql");

// `horizon`: all transactions before it had ended at this look. It comes back even when nothing is new.
const NEW: &str = "
select pg_snapshot_xmin(pg_current_snapshot())::text as horizon, t.transaction::text as of_transaction, t.*
from (values (1)) always left join chaos_audit.transitions t on t.transaction >= $1::xid8
order by t.number";

const CENSUS: &str = "
select count(*) as rows,
       count(*) filter (where status = 'pending' and lease_token is null) as pending,
       count(*) filter (where status = 'pending' and lease_token is not null) as leased,
       count(*) filter (where status = 'delivered') as delivered,
       count(*) filter (where status = 'dead') as dead
from public.webhook_events";

/// Why the audit cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// Postgres refused or did not answer.
    #[error("the audit's database")]
    Postgres(#[from] sqlx::Error),
    /// It did not answer in time.
    #[error("the audit's database did not answer within {} s", READ.as_secs())]
    Silent,
}

/// The end of the audit's table that was read, and what comes next.
#[derive(Debug)]
pub struct Audit {
    url: String,
    connection: Option<PgConnection>,
    horizon: u64,
    seen: BTreeSet<i64>,
}

impl Audit {
    /// Installs the trigger in a database whose schema is there; nothing where there is none, as with
    /// another product.
    ///
    /// # Errors
    /// When Postgres cannot be reached or refuses it.
    pub async fn install(url: &str) -> Result<Option<Audit>, AuditError> {
        let mut connection = postgres::connect(url).await?;
        let there: bool =
            sqlx::query_scalar("select to_regclass('public.webhook_events') is not null")
                .fetch_one(&mut connection)
                .await?;
        if !there {
            return Ok(None);
        }
        sqlx::raw_sql(AssertSqlSafe(format!("begin; {INSTALL} commit;")))
            .execute(&mut connection)
            .await?;
        Ok(Some(Audit {
            url: url.to_owned(),
            connection: Some(connection),
            horizon: 0,
            seen: BTreeSet::new(),
        }))
    }

    /// Every transition that was committed since the last reading, in the order of each event's commits.
    ///
    /// # Errors
    /// When Postgres does not answer; nothing is lost then, the next reading has it.
    pub async fn read(&mut self) -> Result<Vec<Op>, AuditError> {
        let mut connection = self.take_connection().await?;
        let rows = sqlx::query(NEW)
            .bind(self.horizon.to_string())
            .fetch_all(&mut connection);
        let rows = timeout(READ, rows)
            .await
            .map_err(|_| AuditError::Silent)??;
        self.connection = Some(connection);
        Ok(self.take(&rows)?)
    }

    /// What is left to read, and all rows counted, in one snapshot.
    ///
    /// # Errors
    /// As [`Audit::read`].
    pub async fn census(&mut self) -> Result<(Vec<Op>, Census), AuditError> {
        let mut connection = self.take_connection().await?;
        let both = async {
            let mut snapshot = connection
                .begin_with("begin isolation level repeatable read read only")
                .await?;
            let rows = sqlx::query(NEW)
                .bind(self.horizon.to_string())
                .fetch_all(&mut *snapshot)
                .await?;
            let census = sqlx::query(CENSUS).fetch_one(&mut *snapshot).await?;
            snapshot.commit().await?;
            Ok::<_, sqlx::Error>((rows, census))
        };
        let (rows, census) = timeout(READ, both)
            .await
            .map_err(|_| AuditError::Silent)??;
        self.connection = Some(connection);
        Ok((self.take(&rows)?, counted(&census)?))
    }

    /// A connection that a failure leaves out is not used again.
    async fn take_connection(&mut self) -> Result<PgConnection, AuditError> {
        if let Some(connection) = self.connection.take() {
            return Ok(connection);
        }
        let connecting = timeout(READ, postgres::connect(&self.url)).await;
        Ok(connecting.map_err(|_| AuditError::Silent)??)
    }

    fn take(&mut self, rows: &[PgRow]) -> Result<Vec<Op>, sqlx::Error> {
        let mut horizon = self.horizon;
        let mut again = BTreeSet::new();
        let mut ops = Vec::new();
        for row in rows {
            horizon = number(row.try_get("horizon")?);
            let Some(place) = row.try_get::<Option<i64>, _>("number")? else {
                continue;
            };
            if number(row.try_get("of_transaction")?) >= horizon {
                again.insert(place);
            }
            if !self.seen.contains(&place) {
                ops.push(told(row)?);
            }
        }
        self.horizon = horizon;
        self.seen = again;
        Ok(ops)
    }
}

/// A follower at work: it writes what it reads into the history until it is finished.
#[derive(Debug)]
pub struct Following {
    recorder: Recorder,
    stop: CancellationToken,
    task: JoinHandle<(Audit, Vec<Op>)>,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Audit {
    /// Follows the table from now on.
    #[must_use]
    pub fn follow(self, recorder: &Recorder) -> Following {
        let stop = CancellationToken::new();
        let task = tokio::spawn(follow(self, recorder.clone(), stop.clone()));
        Following {
            recorder: recorder.clone(),
            stop,
            task,
        }
    }
}

async fn follow(mut audit: Audit, recorder: Recorder, stop: CancellationToken) -> (Audit, Vec<Op>) {
    let mut looks = interval(Duration::from_millis(LOOK_MS));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut held_back = Vec::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return (audit, held_back),
            _ = looks.tick() => {}
        }
        let new = tokio::select! {
            biased;
            () = stop.cancelled() => return (audit, held_back),
            // Postgres may be down on purpose: the next look has what this one missed.
            new = audit.read() => new.unwrap_or_default(),
        };
        record(&recorder, std::mem::replace(&mut held_back, new));
    }
}

fn record(recorder: &Recorder, ops: Vec<Op>) {
    for op in ops {
        recorder.record(op);
    }
}

impl Following {
    /// Writes down what is left and gives the count of all rows at that moment.
    ///
    /// # Errors
    /// When Postgres does not answer although everything is healed.
    pub async fn finish(mut self) -> Result<Census, AuditError> {
        self.stop.cancel();
        let (mut audit, held_back) = (&mut self.task)
            .await
            .expect("the follower neither panics nor is it aborted before its owner is gone");
        record(&self.recorder, held_back);
        let mut tries = 1;
        let (rest, census) = loop {
            match audit.census().await {
                Ok(read) => break read,
                Err(_) if tries < LAST_READS_MAX => tries += 1,
                Err(error) => return Err(error),
            }
        };
        record(&self.recorder, rest);
        Ok(census)
    }
}

/// The audits of a run: one for each database.
#[derive(Debug, Default)]
pub struct Audits(Vec<Following>);

impl Audits {
    /// Installs and follows in each of the databases that has the schema.
    ///
    /// # Errors
    /// When one cannot be reached or refuses it.
    pub async fn begin<'u>(
        urls: impl Iterator<Item = &'u String>,
        recorder: &Recorder,
    ) -> Result<Audits, AuditError> {
        let mut followings = Vec::new();
        for url in urls {
            if let Some(audit) = Audit::install(url).await? {
                followings.push(audit.follow(recorder));
            }
        }
        Ok(Audits(followings))
    }

    /// Writes down the rest of each, and the count of all rows.
    ///
    /// # Errors
    /// When a database does not answer.
    pub async fn finish(self, recorder: &Recorder) -> Result<(), AuditError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let mut all = Census::default();
        for following in self.0 {
            let census = following.finish().await?;
            all.rows += census.rows;
            all.pending += census.pending;
            all.leased += census.leased;
            all.delivered += census.delivered;
            all.dead += census.dead;
        }
        recorder.record(Op::Census(all));
        Ok(())
    }
}

fn told(row: &PgRow) -> Result<Op, sqlx::Error> {
    let uuid = |name| row.try_get::<Option<Uuid>, _>(name);
    let count = |name| row.try_get::<i32, _>(name).map(i32::unsigned_abs);
    let step: String = row.try_get("step")?;
    let transition = Transition {
        id: row.try_get::<Uuid, _>("event_id")?.to_string(),
        target: row.try_get("target")?,
        attempt: count("attempt")?,
        token: uuid("token")?.map(|token| token.to_string()),
        held: uuid("held")?.map(|token| token.to_string()),
        holder: row
            .try_get::<Option<i64>, _>("holder")?
            .map(|holder| format!("{holder:016x}")),
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
    Ok(step_of(&step).op(transition))
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

fn counted(row: &PgRow) -> Result<Census, sqlx::Error> {
    let count = |name| row.try_get::<i64, _>(name).map(i64::unsigned_abs);
    Ok(Census {
        rows: count("rows")?,
        pending: count("pending")?,
        leased: count("leased")?,
        delivered: count("delivered")?,
        dead: count("dead")?,
    })
}

/// A transaction's number; Postgres tells it as text.
fn number(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}
