//! The reference: a narrow queue of its own in plain SQL, without what the dispatcher must keep for its promises.
//!
//! No payload, no token, no history that outlives its row but a bare line an attempt. It is what SQL can do here at best,
//! not a design: a claim is an update, an end is a delete.

use sqlx::{AssertSqlSafe, PgPool, Row};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::sides::Side;

/// Rows that are added at a time.
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
select gen_random_uuid(), g % 50, now() - interval '1 h' + g * interval '1 ms' from generate_series(1, $1) g";

const END: &str = "
with d as (delete from ref_q where event_id = any($1) returning event_id, attempt)
insert into ref_attempt (event_id, attempt, http, ms) select event_id, attempt, 200, 12 from d";

const UNLEASE: &str = "delete from ref_q where lease_until is not null";

const PEEK: &str = "
select event_id from ref_q where due_at <= now() and (lease_until is null or lease_until < now())
order by due_at limit 1";

/// The plain queue over a backlog.
#[derive(Debug)]
pub struct Plain {
    pool: PgPool,
    due: Mutex<usize>,
}

impl Plain {
    /// In a database of its own.
    ///
    /// # Errors
    /// When the database does not take the schema.
    pub async fn open(url: &str, workers: u32) -> anyhow::Result<Self> {
        let pool = sqlx::postgres::PgPoolOptions::new()
            .max_connections(workers)
            .connect(url)
            .await?;
        sqlx::raw_sql(SCHEMA).execute(&pool).await?;
        Ok(Self {
            pool,
            due: Mutex::new(0),
        })
    }
}

impl Side for Plain {
    async fn provide(&self, rows: usize, spare: usize) {
        let mut due = self.due.lock().await;
        let run = |sql| sqlx::query(sql).execute(&self.pool);
        run(UNLEASE).await.expect("the server answers");
        if *due < rows + spare {
            let more = (rows + spare).max(FILL_ROWS);
            let count = i64::try_from(more).expect("a backlog of thousands");
            let filled = sqlx::query(FILL).bind(count).execute(&self.pool).await;
            filled.expect("the backlog is stored");
            run("vacuum analyze ref_q")
                .await
                .expect("the server vacuums");
            *due += more;
        }
        *due -= rows;
        run(PEEK).await.expect("the server answers");
    }

    async fn take(&self, batch: usize, settle: bool) -> usize {
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
            .expect("the server answers")
            .iter()
            .map(|row| row.get("event_id"))
            .collect();
        if settle {
            let ended = sqlx::query(END).bind(&ids).execute(&self.pool).await;
            ended.expect("the server answers");
        }
        ids.len()
    }
}
