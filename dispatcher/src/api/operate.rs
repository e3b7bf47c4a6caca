//! Operations on one event: `GET /events/{id}/payload`, `POST /events/{id}/cancel` and
//! `POST /events/{id}/replay`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use serde::Deserialize;

use super::body;
use super::get_event::{Named, completed};
use super::problem::Problem;
use super::state::Api;

/// What a client cannot know after an error.
const DOUBT: &str = "the event may have changed, read it and ";

/// The optional body of a replay.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct IfRound {
    round: Option<i32>,
}

pub(super) async fn payload(
    State(api): State<Arc<Api>>,
    named: Named,
) -> Result<impl IntoResponse, Problem> {
    let (store, id) = (api.store.clone(), named.0);
    let payload = completed(async move { store.payload(id).await }).await;
    let payload = named.found(&api, payload, "")?;
    Ok(([(CONTENT_TYPE, "application/json")], payload))
}

pub(super) async fn cancel(
    State(api): State<Arc<Api>>,
    named: Named,
) -> Result<impl IntoResponse, Problem> {
    let (store, id) = (api.store.clone(), named.0);
    let event = completed(async move { store.cancel(id).await }).await;
    let event = named.found(&api, event, DOUBT)?;
    if !event.is_done {
        let detail =
            format!("the event is {}; only a pending event can be cancelled", event.status);
        return Err(Problem::wrong_state(detail));
    }
    Ok(Json(event))
}

pub(super) async fn replay(
    State(api): State<Arc<Api>>,
    named: Named,
    request: Request,
) -> Result<impl IntoResponse, Problem> {
    let (body, _reserved) = body::read(request, api.config.body_bytes_max, &api.body_bytes).await?;
    let given =
        if body.is_empty() { Ok(IfRound::default()) } else { serde_json::from_slice(&body) };
    let IfRound { round } = given.map_err(|error| {
        Problem::malformed(format!(r#"the body is not empty or {{"round": <number>}}: {error}"#))
    })?;
    let (store, id) = (api.store.clone(), named.0);
    let event = completed(async move { store.replay(id, round).await }).await;
    let event = named.found(&api, event, DOUBT)?;
    if event.is_done {
        api.shared.wake.notify_one();
        return Ok((StatusCode::ACCEPTED, Json(event)));
    }
    let now = event.round;
    Err(Problem::wrong_state(match round.filter(|round| *round != now) {
        Some(seen) => format!("the event is in round {now} and not {seen}; read it again"),
        None => "the event is pending; only a finished event can be replayed".to_owned(),
    }))
}
