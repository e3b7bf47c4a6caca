//! `POST /events`: validate, one durable commit, 202. Never a 202 before the commit is acknowledged.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::time::Instant;

use super::Api;
use super::body::{self, PostBody};
use super::idempotency_key::idempotency_key;
use super::problem::Problem;
use crate::event::{EventId, NewEvent, Target};
use crate::store::{Inserted, Store};
use crate::target::TargetUrl;

#[derive(Serialize)]
struct Accepted {
    id: String,
    status: &'static str,
}

pub(super) async fn post_event(State(api): State<Api>, request: Request) -> Response {
    let began = Instant::now();
    let answer = match accept(&api, request).await {
        Ok(id) => (
            StatusCode::ACCEPTED,
            Json(Accepted {
                id: id.to_string(),
                status: "accepted",
            }),
        )
            .into_response(),
        Err(problem) => problem.into_response(),
    };
    api.shared
        .metrics
        .accepted(answer.status().as_u16(), began.elapsed());
    answer
}

async fn accept(api: &Api, request: Request) -> Result<EventId, Problem> {
    if !is_json(request.headers()) {
        body::discard(request).await;
        return Err(Problem::content_type());
    }
    if !is_as_it_is(request.headers()) {
        body::discard(request).await;
        return Err(Problem::content_encoding());
    }
    let key = idempotency_key(request.headers());
    let bytes = body::read(request, api.config.body_bytes_max).await?;
    let event = new_event(api, key?, body::parse(&bytes)?)?;
    if !api.shared.migrated.is_set() {
        return Err(Problem::unavailable(
            "the database is not ready yet; nothing was stored, try again",
        ));
    }
    // A task of its own: a client that hangs up drops this future, and a statement that is dropped costs its connection.
    let store = api.store.clone();
    let inserting = tokio::spawn(async move { store.insert(event).await });
    match inserting.await.expect("an insert does not panic") {
        Ok(Inserted::Accepted(id)) => {
            api.shared.wake.notify_one();
            tracing::debug!(event.id = %id, "accepted");
            Ok(id)
        }
        Ok(Inserted::Conflict(id)) => Err(Problem::conflict(id)),
        Err(error) => {
            api.outages.log(&error);
            Err(error.into())
        }
    }
}

fn new_event(api: &Api, key: Option<String>, body: PostBody<'_>) -> Result<NewEvent, Problem> {
    let target = match (body.target_url, &api.config.default_target) {
        (Some(given), _) => {
            TargetUrl::parse(&given, &api.config.allowed)
                .map_err(|error| Problem::bad_target(format!("target_url {error}")))?;
            Target::Given(given)
        }
        (None, Some(default)) => Target::Default(default.as_str().to_owned()),
        (None, None) => {
            return Err(Problem::bad_target(
                "target_url is absent, and the setting TARGET_URL gives no default",
            ));
        }
    };
    let payload = body.payload.as_bytes().to_vec();
    Ok(NewEvent {
        id: EventId::fresh(),
        payload,
        target,
        idempotency_key: key,
    })
}

/// `application/json`; parameters do not matter.
fn is_json(headers: &HeaderMap) -> bool {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

/// No `Content-Encoding` but `identity`: nothing is decoded here.
fn is_as_it_is(headers: &HeaderMap) -> bool {
    let mut encodings = headers.get_all(CONTENT_ENCODING).iter();
    encodings.all(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
}
