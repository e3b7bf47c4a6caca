//! Authorization of `/events` by one of the `API_KEYS`. If there are none, every request is
//! allowed.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::problem::Problem;
use super::state::Api;

/// Refuses a request without a valid key before any of its body is read.
pub(super) async fn authorize(
    State(api): State<Arc<Api>>,
    request: Request,
    next: Next,
) -> Response {
    if api.key_digests.is_empty() || has_valid_key(&api.key_digests, request.headers()) {
        return next.run(request).await;
    }
    Problem::unauthorized().into_response()
}

/// Compares with every key in constant time. Otherwise the response time would reveal a matching
/// prefix or the position of a key. The digests hide the length of the keys.
fn has_valid_key(digests: &[[u8; 32]], headers: &HeaderMap) -> bool {
    let header = headers.get(AUTHORIZATION).map(|value| value.as_bytes());
    let Some((scheme, given)) = header.and_then(|value| value.split_at_checked("Bearer ".len()))
    else {
        return false;
    };
    let given = Sha256::digest(given);
    let any =
        digests.iter().fold(Choice::from(0), |any, digest| any | digest.ct_eq(given.as_slice()));
    scheme.eq_ignore_ascii_case(b"Bearer ") && bool::from(any)
}
