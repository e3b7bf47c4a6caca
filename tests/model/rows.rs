//! Reads the rows of Postgres as rows of the model.

use std::collections::BTreeMap;

use chaos::history::transition::Counts;
use chaos::sim::model::{Lease, Row};
use chrono::{DateTime, Utc};
use dispatcher::event::{EventId, LeaseToken, WorkerId};
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row as _};

const ROWS: &str = "select * from webhook_events order by id";

pub(super) async fn read(pool: &PgPool) -> BTreeMap<EventId, Row> {
    let rows = sqlx::query(ROWS).fetch_all(pool).await.unwrap();
    rows.iter().map(|row| (EventId(row.get("id")), to_model(row))).collect()
}

fn to_model(row: &PgRow) -> Row {
    let count = |name: &str| row.get::<i32, _>(name).unsigned_abs();
    let token: Option<uuid::Uuid> = row.get("lease_token");
    Row {
        target_url: row.get("target_url"),
        target_given: row.get("target_given"),
        payload: row.get("payload"),
        idempotency_key: row.get("idempotency_key"),
        counts: Counts {
            status: row.get("status"),
            reason: row.get("reason"),
            attempt_count: count("attempt_count"),
            failure_count: count("failure_count"),
            abandon_count: count("abandon_count"),
            round: count("round"),
        },
        due_us: us(row, "next_retry_at"),
        lease: token.map(|token| Lease {
            token: LeaseToken(token),
            until_us: us(row, "lease_until").unwrap(),
            claimed_us: us(row, "claimed_at").unwrap(),
            holder: WorkerId(row.get("holder")),
        }),
        created_us: us(row, "created_at").unwrap(),
        finished_us: us(row, "finished_at"),
    }
}

fn us(row: &PgRow, name: &str) -> Option<i64> {
    let time: Option<DateTime<Utc>> = row.get(name);
    time.map(|time| time.timestamp_micros())
}
