//! Error responses: `application/problem+json` (RFC 9457).
//!
//! `type` and `title` identify the problem and never change. `detail` explains this occurrence and
//! the fix. `field` names the header or member that is invalid.

use std::borrow::Cow;
use std::time::Duration;

use axum::Json;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::store::StoreError;

/// `Retry-After` of a 503, in seconds. Most outages, such as a restart of Postgres, are short.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Problem {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<Cow<'static, str>>,
    #[serde(skip)]
    header: Option<Box<(HeaderName, HeaderValue)>>,
}

/// The members of a problem that are the same in each occurrence: status, name and title.
struct Kind(u16, &'static str, &'static str);

const MALFORMED_BODY: Kind = Kind(400, "malformed-body", "The request body is malformed");
const BAD_KEY: Kind = Kind(400, "bad-idempotency-key", "The Idempotency-Key is invalid");
const UNAUTHORIZED: Kind = Kind(401, "unauthorized", "A valid API key is required");
const NOT_FOUND: Kind = Kind(404, "not-found", "Not found");
const METHOD_NOT_ALLOWED: Kind = Kind(405, "method-not-allowed", "The method is not supported");
const SLOW_BODY: Kind = Kind(408, "slow-body", "The request body is too slow");
const CONFLICT: Kind =
    Kind(409, "idempotency-conflict", "The Idempotency-Key was used for a different event");
const TOO_LARGE: Kind = Kind(413, "body-too-large", "The request body is too large");
const BAD_CONTENT_TYPE: Kind =
    Kind(415, "unsupported-content-type", "The content type is not supported");
const BAD_CONTENT_ENCODING: Kind =
    Kind(415, "unsupported-content-encoding", "The content encoding is not supported");
const BAD_TARGET: Kind = Kind(422, "bad-target", "The target is invalid or not allowed");
const TOO_DEEP: Kind = Kind(422, "payload-too-deep", "The payload is nested too deeply");
const OVERLOADED: Kind = Kind(503, "overloaded", "The dispatcher has too many requests");
const UNAVAILABLE: Kind = Kind(503, "unavailable", "The database cannot serve the request");

impl Problem {
    pub(super) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(MALFORMED_BODY, detail)
    }

    pub(super) fn malformed_field(
        field: impl Into<Cow<'static, str>>,
        detail: impl Into<String>,
    ) -> Self {
        Self::malformed(detail).field(field)
    }

    pub(super) fn bad_key(detail: impl Into<String>) -> Self {
        Self::new(BAD_KEY, detail).field("Idempotency-Key")
    }

    pub(super) fn unauthorized() -> Self {
        let detail = "send one of the API_KEYS as `Authorization: Bearer KEY`";
        Self::new(UNAUTHORIZED, detail).header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(NOT_FOUND, detail)
    }

    pub(super) fn method_not_allowed(detail: impl Into<String>) -> Self {
        Self::new(METHOD_NOT_ALLOWED, detail)
    }

    pub(super) fn slow_body(limit: Duration) -> Self {
        let seconds = limit.as_secs();
        let detail = format!("the body did not arrive within {seconds} s; send it faster");
        Self::new(SLOW_BODY, detail)
    }

    pub(super) fn conflict(id: impl std::fmt::Display) -> Self {
        let detail = format!(
            "this key belongs to event {id}, which has a different payload or target; \
             send a new key"
        );
        Self::new(CONFLICT, detail).field("Idempotency-Key")
    }

    pub(super) fn too_large(bytes_max: usize) -> Self {
        let detail = format!(
            "the body is larger than MAX_BODY_BYTES={bytes_max}; nothing was stored, \
             send a smaller body"
        );
        Self::new(TOO_LARGE, detail)
    }

    pub(super) fn content_type() -> Self {
        let detail = "send the body with `Content-Type: application/json`";
        Self::new(BAD_CONTENT_TYPE, detail)
    }

    pub(super) fn content_encoding() -> Self {
        let detail = "the body is not decoded; send it without Content-Encoding";
        Self::new(BAD_CONTENT_ENCODING, detail).field("Content-Encoding")
    }

    pub(super) fn bad_target(detail: impl Into<String>) -> Self {
        Self::new(BAD_TARGET, detail).field("target_url")
    }

    pub(super) fn too_deep(depth_max: usize) -> Self {
        let detail = format!("the payload has more than {depth_max} levels; send a flatter one");
        Self::new(TOO_DEEP, detail).field("payload")
    }

    pub(super) fn overloaded(detail: impl Into<String>) -> Self {
        Self::new(OVERLOADED, detail).header(RETRY_AFTER, RETRY_AFTER_SECONDS)
    }

    pub(super) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(UNAVAILABLE, detail).header(RETRY_AFTER, RETRY_AFTER_SECONDS)
    }

    fn new(Kind(status, name, title): Kind, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:webhook-dispatcher:{name}"),
            title,
            status,
            detail: detail.into(),
            field: None,
            header: None,
        }
    }

    fn field(mut self, field: impl Into<Cow<'static, str>>) -> Self {
        self.field = Some(field.into());
        self
    }

    fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some(Box::new((name, value)));
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
        let status = StatusCode::from_u16(self.status).expect("every `Kind` has a valid status");
        let header = self.header.as_deref().cloned();
        let mut response = (status, Json(self)).into_response();
        let json = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        response.headers_mut().extend(header);
        response
    }
}
