//! References R3 and R4: a minimal queue in plain SQL, without the data that the dispatcher needs.
//!
//! It has no payload and no token, and a minimal row per attempt. A claim is an update and an end
//! is a delete. It shows the limit of SQL on this machine and is not a usable design.

use sqlx::{AssertSqlSafe, PgPool, Row};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::backlog;
use crate::sides::{Backlog, Side};

/// Rows per refill.
const FILL_ROWS: usize = 50_000;

const SCHEMA: &str = "
create table ref_q (event_id uuid primary key, target_id int not null, attempt smallint not null default 0,
    due_at timestamptz not null default now(), lease_until timestamptz) with (fillfactor = 50);
create index ref_q_due on ref_q (due_at);
create table ref_attempt (event_id uuid not null, attempt smallint not null, at timestamptz not null default now(),
    http smallint, ms int, err text);
create index ref_attempt_event on ref_attempt (event_id);";

const FILL: &str = "
insert into ref_q (event_id, target_id, due_at)
select gen_random_uuid(), g % 50, now() + $2 * interval '1 h' + g * interval '1 ms' from generate_series(1, $1) g";

const END: &str = "
with d as (delete from ref_q where event_id = any($1) returning event_id, attempt)
insert into ref_attempt (event_id, attempt, http, ms) select event_id, attempt, 200, 12 from d";

/// First due time of the rows, in hours from now.
const PAST_HOURS: f64 = -1.0;
const FUTURE_HOURS: f64 = 24.0;

const DELETE_LEASED: &str = "delete from ref_q where due_at <= now() and lease_until is not null";

const READ_INDEX: &str = "
select event_id from ref_q where due_at <= now() and (lease_until is null or lease_until < now())
order by due_at limit 1";

/// The queue with a backlog.
#[derive(Debug)]
pub struct Plain {
    pool: PgPool,
    backlog: Backlog,
    due: Mutex<Option<usize>>,
}

impl Plain {
    /// Creates the queue in a separate database.
    ///
    /// # Errors
    /// If the schema cannot be created.
    pub async fn open(url: &str, workers: u32, backlog: Backlog) -> anyhow::Result<Self> {
        let pool =
            sqlx::postgres::PgPoolOptions::new().max_connections(workers).connect(url).await?;
        sqlx::raw_sql(SCHEMA).execute(&pool).await?;
        Ok(Self { pool, backlog, due: Mutex::default() })
    }

    async fn fill(&self, rows: usize, due_hours: f64) {
        let count = i64::try_from(rows).expect("the backlog fits into an i64");
        let filled = sqlx::query(FILL).bind(count).bind(due_hours).execute(&self.pool).await;
        filled.expect("the backlog is stored");
    }
}

impl Side for Plain {
    async fn provide(&self, rows: usize, spare: usize) {
        let mut due = self.due.lock().await;
        if due.is_none() {
            self.fill(self.backlog.future, FUTURE_HOURS).await;
        }
        let run = |sql| sqlx::query(sql).execute(&self.pool);
        run(DELETE_LEASED).await.expect("the server responds");
        let (left, needed) = (due.unwrap_or(0), self.backlog.due + rows + spare);
        let mut more = 0;
        if left < needed {
            more = needed - left + FILL_ROWS.min(self.backlog.due);
            self.fill(more, PAST_HOURS).await;
            let settled = backlog::settle_down(&self.pool, "ref_q").await;
            settled.expect("vacuum succeeds");
        }
        *due = Some(left + more - rows);
        run(READ_INDEX).await.expect("the server responds");
    }

    async fn claim(&self, batch: usize, settle: bool) -> usize {
        let claim = format!(
            "with c as materialized (
                select event_id from ref_q where due_at <= now() and (lease_until is null or lease_until < now())
                order by due_at limit {batch} for update skip locked)
            update ref_q q set lease_until = now() + interval '600 s', attempt = q.attempt + 1
            from c where q.event_id = c.event_id returning q.event_id, q.attempt"
        );
        let rows = sqlx::query(AssertSqlSafe(claim)).fetch_all(&self.pool);
        let ids: Vec<Uuid> = rows
            .await
            .expect("the server responds")
            .iter()
            .map(|row| row.get("event_id"))
            .collect();
        if settle {
            let ended = sqlx::query(END).bind(&ids).execute(&self.pool).await;
            ended.expect("the server responds");
        }
        ids.len()
    }
}
