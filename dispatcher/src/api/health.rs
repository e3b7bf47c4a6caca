//! Whether this process lives, whether it can do its work, and what it has counted.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use super::Api;
use super::problem::Problem;

/// `GET /livez`: the process answers.
pub(super) async fn livez() -> &'static str {
    "alive\n"
}

/// `GET /readyz`: the database answers and its schema is current.
pub(super) async fn readyz(State(api): State<Api>) -> Result<&'static str, Problem> {
    if !api.shared.migrated.is_set() {
        return Err(Problem::unavailable(
            "the schema is not current yet: waiting for the database",
        ));
    }
    match api.store.is_current().await {
        Ok(true) => Ok("ready\n"),
        Ok(false) => Err(Problem::unavailable("the schema is older than this binary")),
        Err(_) => Err(Problem::unavailable("the database is out of reach")),
    }
}

/// `GET /metrics`: OpenMetrics text. The backlog is looked up now; without a database it stays as it was last seen.
pub(super) async fn metrics(State(api): State<Api>) -> impl IntoResponse {
    if api.shared.migrated.is_set()
        && let Ok(gauges) = api.store.gauges().await
    {
        api.shared.metrics.backlog(&gauges);
    }
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, kind)], api.shared.metrics.text())
}
