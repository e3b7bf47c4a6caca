//! HTTP API: the only route table.
//!
//! A handler validates the request, calls the store and responds. The handlers know nothing about
//! the worker except the handle that wakes it.

mod auth;
mod body;
mod connections;
mod get_event;
mod health;
mod idempotency_key;
mod lingering;
mod outages;
mod post_event;
mod problem;
pub(crate) mod server;
mod state;

use axum::Router;
use axum::http::Uri;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};

pub(crate) use self::connections::OPERATIONS_CONNECTIONS;
use self::problem::Problem;
pub(crate) use self::state::{Api, Shared};

/// Returns all routes: events, health and metrics.
pub(crate) fn router(api: Api) -> Router {
    let events = Router::new()
        .route("/events", post(post_event::post_event))
        .route("/events/{id}", get(get_event::get_event))
        .route_layer(from_fn(connections::with_place))
        // The last layer runs first: only an authorized request gets a place.
        .route_layer(from_fn_with_state(api.clone(), auth::authorize));
    events
        .merge(operations())
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .with_state(api)
}

/// Returns the routes of a process without the API role: health and metrics.
pub(crate) fn operations_router(api: Api) -> Router {
    operations().method_not_allowed_fallback(method_not_allowed).fallback(not_found).with_state(api)
}

fn operations() -> Router<Api> {
    Router::new()
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
}

async fn not_found(uri: Uri) -> Problem {
    Problem::not_found(format!("{} is not a route of this server", uri.path()))
}

async fn method_not_allowed(uri: Uri) -> Problem {
    Problem::method_not_allowed(format!(
        "{} does not support this method; the Allow header lists the supported ones",
        uri.path()
    ))
}
