//! Liveness, readiness and metrics of this process.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use tokio::time::Instant;

use super::problem::Problem;
use super::state::Api;
use crate::store::Readiness;

/// Shortest interval between two queries of the gauges. Each may count a deep backlog, and every
/// client may read the metrics.
const GAUGES_INTERVAL: Duration = Duration::from_secs(5);

/// Slow queries of the gauges take at most one part in this many of the time. While a transaction
/// elsewhere stays open, each of them reads all dead index entries.
const GAUGES_SHARE: u32 = 10;

/// `GET /livez`: 200 while the process can respond.
pub(super) async fn livez() -> &'static str {
    "alive\n"
}

/// `GET /readyz`: 200 if the database is writable, its schema is current, and the worker of this
/// process runs and holds its presence.
pub(super) async fn readyz(State(api): State<Arc<Api>>) -> Result<&'static str, Problem> {
    api.require_schema("check DATABASE_URL and Postgres")?;
    let refusal = match api.store.readiness().await {
        Ok(Readiness::Ready) => api.shared.worker_health.fault(Instant::now()),
        Ok(Readiness::OldSchema) => Some(
            "the schema of the database is older than this dispatcher; run `dispatcher migrate`",
        ),
        Ok(Readiness::ReadOnly) => Some(
            "the database is read-only or in recovery; point DATABASE_URL at the primary server",
        ),
        Err(_) => Some("the database is unavailable; check Postgres"),
    };
    match refusal {
        None => Ok("ready\n"),
        Some(refusal) => Err(Problem::unavailable(refusal)),
    }
}

/// `GET /metrics`: OpenMetrics text. The gauges from SQL are at most 5 s old, or older if
/// reading them is slow. If they cannot be read, they are absent.
pub(super) async fn metrics(State(api): State<Arc<Api>>) -> impl IntoResponse {
    // A separate task, because this future is dropped if the client disconnects. Dropping a running
    // statement closes its database connection.
    let refreshed = tokio::spawn(refresh_gauges(Arc::clone(&api))).await;
    refreshed.expect("reading the gauges does not panic");
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, content_type)], api.shared.metrics.text())
}

/// Reads the gauges unless they are recent. Concurrent requests wait for the one query.
async fn refresh_gauges(api: Arc<Api>) {
    let mut due_at = api.gauges_due_at.lock().await;
    let start = Instant::now();
    if due_at.is_some_and(|at| start < at) || !api.shared.migrated.load(Ordering::Acquire) {
        return;
    }
    let gauges = api.store.gauges().await;
    *due_at = Some(start + gauges_interval(start.elapsed()));
    api.shared.metrics.backlog(gauges.ok().as_ref());
}

fn gauges_interval(took: Duration) -> Duration {
    GAUGES_INTERVAL.max(took * GAUGES_SHARE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_gauges_are_read_less_often() {
        let intervals = [1, 500, 1_400].map(|ms| gauges_interval(Duration::from_millis(ms)));
        assert_eq!(intervals.map(|interval| interval.as_secs()), [5, 5, 14]);
    }
}
