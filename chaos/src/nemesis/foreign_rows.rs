//! Rows of `webhook_events` that no client posted, for faults that an operator's SQL causes.
//!
//! The audit and the counts leave these rows out. They are copies of a row of the run, so that they
//! have every column of the dispatcher's schema.

use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use super::outage::refused;
use crate::system::SystemError;

/// Copies of one pending row, with other values in some columns. Returns no id if there is no row.
const COPY: &str = "
with sample as (
    select to_jsonb(e) || jsonb_build_object(
        'status', 'pending', 'reason', null, 'finished_at', null, 'idempotency_key', null,
        'lease_token', null, 'lease_until', null, 'claimed_at', null, 'holder', null,
        'payload', '\\x7b7d', 'target_url', 'http://127.0.0.1:9/foreign',
        'attempt_count', 0, 'failure_count', 0, 'abandon_count', 0,
        'next_retry_at', clock_timestamp()) || $2::jsonb as columns
    from webhook_events e limit 1
)
insert into webhook_events
select row.* from sample, generate_series(1, $1) as copy,
    lateral jsonb_populate_record(null::webhook_events,
        columns || jsonb_build_object('id', gen_random_uuid(), 'copy', copy)) as row
returning id";

/// Inserts copies of a row with these columns, which no audit records, and returns their ids.
///
/// # Errors
/// `Unavailable` if there is no row to copy.
pub(super) async fn insert(
    session: &mut PgConnection,
    count: i32,
    columns: Value,
) -> Result<Vec<Uuid>, SystemError> {
    let failed = |error| refused("inserting rows", &error);
    // Triggers do not fire for a replica. Each statement of this session is an operator's.
    sqlx::raw_sql("set session_replication_role = replica")
        .execute(&mut *session)
        .await
        .map_err(failed)?;
    let copied = sqlx::query_scalar(COPY).bind(count).bind(columns.to_string());
    let ids: Vec<Uuid> = copied.fetch_all(&mut *session).await.map_err(failed)?;
    if ids.is_empty() && count > 0 {
        return Err(SystemError::Unavailable {
            driver: "postgres",
            why: "no event was stored, so that no row could be copied".to_owned(),
        });
    }
    Ok(ids)
}

/// Lets the audit leave these rows out. Has no effect in a run without an audit.
pub(super) async fn hide(session: &mut PgConnection, ids: &[Uuid]) -> Result<(), SystemError> {
    let failed = |error| refused("hiding rows from the audit", &error);
    let installed = "select to_regclass('chaos_audit.foreign_rows') is not null";
    let installed = sqlx::query_scalar(installed).fetch_one(&mut *session).await;
    if installed.map_err(failed)? {
        let hide = "insert into chaos_audit.foreign_rows select unnest($1)";
        let hidden = sqlx::query(hide).bind(ids).execute(session).await;
        hidden.map_err(failed)?;
    }
    Ok(())
}

/// The number of these rows for which a condition holds.
pub(super) async fn count(
    session: &mut PgConnection,
    ids: &[Uuid],
    condition: &'static str,
) -> Result<usize, SystemError> {
    let sql = format!("select count(*) from webhook_events where id = any($1) and {condition}");
    let counted = sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(sql)).bind(ids);
    let counted = counted.fetch_one(session).await;
    let counted = counted.map_err(|error| refused("counting rows", &error))?;
    Ok(usize::try_from(counted).unwrap_or(0))
}

/// The columns of a row without other values.
pub(super) fn unchanged() -> Value {
    json!({})
}
