//! Error responses: `application/problem+json` (RFC 9457).
//!
//! `type` and `title` identify the problem and never change. `detail` explains this occurrence and
//! the fix. `field` names the header or member that is invalid.

use std::borrow::Cow;
use std::time::Duration;

use axum::Json;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::store::StoreError;

/// `Retry-After` of a 503, in seconds. Most outages, such as a restart of Postgres, are short.
const RETRY_AFTER_SECONDS: &str = "1";

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Problem {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<Cow<'static, str>>,
}

impl Problem {
    pub(super) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(400, "malformed-body", "The request body is malformed", detail)
    }

    pub(super) fn bad_key(detail: impl Into<String>) -> Self {
        let title = "The Idempotency-Key is invalid";
        Self::new(400, "bad-idempotency-key", title, detail).field("Idempotency-Key")
    }

    pub(super) fn unauthorized() -> Self {
        let detail = "send one of the API_KEYS as `Authorization: Bearer KEY`";
        Self::new(401, "unauthorized", "A valid API key is required", detail)
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(404, "not-found", "Not found", detail)
    }

    pub(super) fn method_not_allowed(detail: impl Into<String>) -> Self {
        Self::new(405, "method-not-allowed", "The method is not supported", detail)
    }

    pub(super) fn slow_body(limit: Duration) -> Self {
        let seconds = limit.as_secs();
        let detail = format!("the body did not arrive within {seconds} s; send it faster");
        Self::new(408, "slow-body", "The request body is too slow", detail)
    }

    pub(super) fn conflict(id: impl std::fmt::Display) -> Self {
        let detail = format!(
            "this key belongs to event {id}, which has a different payload or target; \
             send a new key"
        );
        let title = "The Idempotency-Key was used for a different event";
        Self::new(409, "idempotency-conflict", title, detail).field("Idempotency-Key")
    }

    pub(super) fn wrong_state(detail: impl Into<String>) -> Self {
        Self::new(409, "wrong-state", "The state of the event does not permit this", detail)
    }

    pub(super) fn too_large(bytes_max: usize) -> Self {
        let detail = format!(
            "the body is larger than MAX_BODY_BYTES={bytes_max}; nothing was stored, \
             send a smaller body"
        );
        Self::new(413, "body-too-large", "The request body is too large", detail)
    }

    pub(super) fn content_type() -> Self {
        let detail = "send the body with `Content-Type: application/json`";
        Self::new(415, "unsupported-content-type", "The content type is not supported", detail)
    }

    pub(super) fn content_encoding() -> Self {
        let detail = "the body is not decoded; send it without Content-Encoding";
        let title = "The content encoding is not supported";
        Self::new(415, "unsupported-content-encoding", title, detail).field("Content-Encoding")
    }

    pub(super) fn bad_target(detail: impl Into<String>) -> Self {
        let title = "The target is invalid or not allowed";
        Self::new(422, "bad-target", title, detail).field("target_url")
    }

    pub(super) fn too_deep(depth_max: usize) -> Self {
        let detail = format!("the payload has more than {depth_max} levels; send a flatter one");
        let title = "The payload is nested too deeply";
        Self::new(422, "payload-too-deep", title, detail).field("payload")
    }

    pub(super) fn overloaded(detail: impl Into<String>) -> Self {
        Self::new(503, "overloaded", "The dispatcher has too many requests", detail)
    }

    pub(super) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(503, "unavailable", "The database cannot serve the request", detail)
    }

    fn new(status: u16, name: &str, title: &'static str, detail: impl Into<String>) -> Self {
        let kind = format!("urn:webhook-dispatcher:{name}");
        Self { kind, title, status, detail: detail.into(), field: None }
    }

    pub(super) fn status(&self) -> u16 {
        self.status
    }

    pub(super) fn field(mut self, field: impl Into<Cow<'static, str>>) -> Self {
        self.field = Some(field.into());
        self
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::unavailable(match &error {
            StoreError::Unavailable { .. } => {
                "the database is unavailable; nothing was stored, try again"
            }
            StoreError::Unknown { .. } => {
                "the database did not confirm the commit in time, so the event may or may not be \
                 stored; try again, with the same Idempotency-Key to avoid a second event"
            }
            StoreError::Refused { .. } => {
                "the database refused the statement; nothing was stored, try again"
            }
        })
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).expect("every problem has a valid status");
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        let further = match status {
            StatusCode::UNAUTHORIZED => Some((WWW_AUTHENTICATE, "Bearer")),
            StatusCode::SERVICE_UNAVAILABLE => Some((RETRY_AFTER, RETRY_AFTER_SECONDS)),
            _ => None,
        };
        headers.extend(further.map(|(name, value)| (name, HeaderValue::from_static(value))));
        response
    }
}
