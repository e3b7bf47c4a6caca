//! Errors as clients see them: `application/problem+json` (RFC 9457).

use std::borrow::Cow;
use std::time::Duration;

use axum::Json;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::store::StoreError;

/// What a client is asked to wait when the database is out of reach.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// How long a client may take to send its body, in words for the answer.
pub(super) const BODY_SECONDS_MAX: Duration = Duration::from_secs(30);

/// An error answer.
#[derive(Debug, Serialize)]
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

impl Problem {
    fn new(status: StatusCode, kind: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:webhook-dispatcher:{kind}"),
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: detail.into(),
            field: None,
            header: None,
        }
    }

    fn about(mut self, field: impl Into<Cow<'static, str>>) -> Self {
        self.field = Some(field.into());
        self
    }

    fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some(Box::new((name, value)));
        self
    }

    pub(super) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed-body", detail)
    }

    pub(super) fn malformed_field(
        field: impl Into<Cow<'static, str>>,
        detail: impl Into<String>,
    ) -> Self {
        Self::malformed(detail).about(field)
    }

    pub(super) fn bad_key(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-idempotency-key", detail).about("Idempotency-Key")
    }

    pub(super) fn unauthorized() -> Self {
        let detail = "send one of the API_KEYS as `Authorization: Bearer KEY`";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
            .with(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", detail)
    }

    pub(super) fn method_not_allowed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail)
    }

    pub(super) fn slow_body() -> Self {
        let detail = format!(
            "the body did not arrive within {} s",
            BODY_SECONDS_MAX.as_secs()
        );
        Self::new(StatusCode::REQUEST_TIMEOUT, "slow-body", detail)
    }

    pub(super) fn conflict(id: impl std::fmt::Display) -> Self {
        let detail = format!("this key belongs to event {id}, whose payload or target differs");
        Self::new(StatusCode::CONFLICT, "idempotency-conflict", detail).about("Idempotency-Key")
    }

    pub(super) fn too_large(bytes_max: usize) -> Self {
        let detail =
            format!("the body is over MAX_BODY_BYTES ({bytes_max} bytes); nothing was stored");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", detail)
    }

    pub(super) fn content_type() -> Self {
        let detail = "send the body as `Content-Type: application/json`";
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-content-type",
            detail,
        )
    }

    pub(super) fn content_encoding() -> Self {
        let detail = "send the body as it is, without a Content-Encoding; nothing is decoded";
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-content-encoding",
            detail,
        )
        .about("Content-Encoding")
    }

    pub(super) fn bad_target(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "bad-target", detail).about("target_url")
    }

    pub(super) fn too_deep(depth_max: usize) -> Self {
        let detail = format!("payload is nested deeper than {depth_max} levels");
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "payload-too-deep", detail).about("payload")
    }

    /// The database gives no answer, or none yet.
    pub(super) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
            .with(RETRY_AFTER, RETRY_AFTER_SECONDS)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Unavailable { .. } => {
                Self::unavailable("the database is out of reach; nothing was stored, try again")
            }
            StoreError::Unknown { .. } => Self::unavailable(
                "the database did not confirm in time: the event may or may not be stored; \
                 try again with the same Idempotency-Key to be sure of one",
            ),
            StoreError::Refused { .. } => {
                Self::unavailable("the database refused for now; nothing was stored, try again")
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).expect("it was made from a status");
        let header = self.header.as_deref().cloned();
        let mut response = (status, Json(self)).into_response();
        let json = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        response.headers_mut().extend(header);
        response
    }
}
