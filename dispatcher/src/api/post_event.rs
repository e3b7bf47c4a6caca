//! `POST /events`: validates the event, stores it in one durable commit, and responds with 202.
//!
//! No 202 precedes the acknowledgement of the commit. Otherwise a crash could lose the event.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::time::Instant;

use super::body::{self, PostBody};
use super::problem::Problem;
use super::state::Api;
use crate::event::{EventId, NewEvent, Target};
use crate::store::{Inserted, LARGE_BYTES_MIN};
use crate::target::Destination;

/// Maximum length of an `Idempotency-Key`.
const KEY_CHARS_MAX: usize = 255;

#[derive(Serialize)]
struct Accepted {
    id: EventId,
    status: &'static str,
}

pub(super) async fn post_event(State(api): State<Arc<Api>>, request: Request) -> Response {
    let start = Instant::now();
    let response = match accept(&api, request).await {
        Ok(id) => (StatusCode::ACCEPTED, Json(Accepted { id, status: "accepted" })).into_response(),
        Err(problem) => problem.into_response(),
    };
    api.shared.metrics.accepted(response.status().as_u16(), start.elapsed());
    response
}

async fn accept(api: &Arc<Api>, request: Request) -> Result<EventId, Problem> {
    require_json(request.headers())?;
    let key = idempotency_key(request.headers());
    // The bytes stay reserved until the event is stored, also if the client disconnects.
    let body_bytes_max = api.config.body_bytes_max;
    let (bytes, reserved) = body::read(request, body_bytes_max, &api.body_bytes).await?;
    let key = key?;
    let event = if bytes.len() < LARGE_BYTES_MIN {
        new_event(api, key, body::parse(&bytes)?)?
    } else {
        // Parsing a large body takes long, and other requests must not wait for it.
        let api = Arc::clone(api);
        let parsing = tokio::task::spawn_blocking(move || {
            body::parse(&bytes).and_then(|body| new_event(&api, key, body))
        });
        parsing.await.expect("parsing does not panic")?
    };
    api.require_schema("nothing was stored, try again")?;
    match api.acceptor.store(event, Some(reserved)).await {
        Ok(Inserted::Accepted(id)) => {
            tracing::debug!(event.id = %id, "event accepted");
            Ok(id)
        }
        Ok(Inserted::Conflict(id)) => Err(Problem::conflict(id)),
        Err(error) => {
            api.log_outage(&error);
            Err(error.into())
        }
    }
}

/// Checks the target and returns the event with a new id.
pub(super) fn new_event(
    api: &Api,
    key: Option<String>,
    body: PostBody<'_>,
) -> Result<NewEvent, Problem> {
    let target = match (body.target_url, &api.config.default_target) {
        (Some(given), _) => {
            Destination::parse(&given, &api.config.allowed)
                .map_err(|error| Problem::bad_target(format!("target_url {error}")))?;
            Target::Given(given)
        }
        (None, Some(default)) => Target::Default(default.clone()),
        (None, None) => {
            return Err(Problem::bad_target(
                "target_url is missing and the setting TARGET_URL defines no default; send a target_url",
            ));
        }
    };
    let payload = body.payload.as_bytes().to_vec();
    Ok(NewEvent { id: EventId::fresh(), payload, target, idempotency_key: key })
}

/// Refuses a request whose body is not JSON as it is.
pub(super) fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    match (is_json(headers), is_encoded(headers)) {
        (false, _) => Err(Problem::content_type()),
        (true, true) => Err(Problem::content_encoding()),
        (true, false) => Ok(()),
    }
}

/// Returns true for `application/json` with any parameters.
fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

/// Returns true for any `Content-Encoding` except `identity`, because the body is never decoded.
fn is_encoded(headers: &HeaderMap) -> bool {
    let mut encodings = headers.get_all(CONTENT_ENCODING).iter();
    encodings.any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// Parses the optional header `Idempotency-Key`: 1 to 255 visible ASCII characters.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Problem::bad_key("the header occurs more than once; send one key"));
    }
    check_key(value.as_bytes()).map(Some)
}

/// Requires 1 to 255 visible ASCII characters.
pub(super) fn check_key(key: &[u8]) -> Result<String, Problem> {
    if (1..=KEY_CHARS_MAX).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic) {
        return Ok(key.iter().copied().map(char::from).collect());
    }
    Err(Problem::bad_key(format!(
        "the key is invalid; send 1 to {KEY_CHARS_MAX} visible ASCII characters"
    )))
}
