//! Liveness, readiness and metrics of this process.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use super::problem::Problem;
use super::state::Api;

/// `GET /livez`: 200 while the process can respond.
pub(super) async fn livez() -> &'static str {
    "alive\n"
}

/// `GET /readyz`: 200 if the database responds and its schema is current.
pub(super) async fn readyz(State(api): State<Api>) -> Result<&'static str, Problem> {
    if !api.shared.migrated.is_set() {
        return Err(Problem::unavailable(
            "the dispatcher has not reached its database yet; check DATABASE_URL and Postgres",
        ));
    }
    match api.store.is_current().await {
        Ok(true) => Ok("ready\n"),
        Ok(false) => Err(Problem::unavailable(
            "the schema of the database is older than this dispatcher; run `dispatcher migrate`",
        )),
        Err(_) => Err(Problem::unavailable(
            "the database is unavailable; check Postgres",
        )),
    }
}

/// `GET /metrics`: OpenMetrics text. The gauges of the backlog are read from the database now. If
/// it is unavailable, they keep their last values.
pub(super) async fn metrics(State(api): State<Api>) -> impl IntoResponse {
    if api.shared.migrated.is_set()
        && let Ok(gauges) = api.store.gauges().await
    {
        api.shared.metrics.backlog(&gauges);
    }
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, content_type)], api.shared.metrics.text())
}
