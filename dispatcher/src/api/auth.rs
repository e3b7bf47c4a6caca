//! Authorization of `/events` by one of the `API_KEYS`. If there are none, every request is
//! allowed.

use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::{Choice, ConstantTimeEq};

use super::body;
use super::problem::Problem;
use super::state::Api;

pub(super) async fn authorize(State(api): State<Api>, request: Request, next: Next) -> Response {
    if api.config.keys.is_empty() || has_valid_key(&api.config.keys, &request) {
        return next.run(request).await;
    }
    body::discard(request).await;
    Problem::unauthorized().into_response()
}

/// Compares with every key in constant time. Otherwise the response time would reveal a matching
/// prefix or the position of a key.
fn has_valid_key(keys: &[String], request: &Request) -> bool {
    let header = request
        .headers()
        .get(AUTHORIZATION)
        .map(|value| value.as_bytes());
    let Some((scheme, given)) = header.and_then(|value| value.split_at_checked("Bearer ".len()))
    else {
        return false;
    };
    let any = keys.iter().fold(Choice::from(0), |any, key| {
        any | key.as_bytes().ct_eq(given)
    });
    scheme.eq_ignore_ascii_case(b"Bearer ") && bool::from(any)
}
