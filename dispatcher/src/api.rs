//! HTTP API: the only route table.
//!
//! A handler validates the request, calls the store and responds. The handlers know nothing about
//! the worker except the handle that wakes it.

mod auth;
mod body;
mod connections;
mod get_event;
mod health;
mod operate;
mod post_batch;
mod post_event;
mod problem;
pub(crate) mod server;
mod state;

use std::sync::Arc;

use axum::Router;
use axum::http::Uri;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};

pub(crate) use self::connections::OPERATIONS_CONNECTIONS;
use self::problem::Problem;
pub(crate) use self::state::{Api, Shared};

/// Returns the routes of a process: health, metrics and, with the API role, events.
pub(crate) fn router(api: Arc<Api>, has_api_role: bool) -> Router {
    let operations = Router::new()
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics));
    let events = Router::new()
        .route("/events", post(post_event::post_event))
        .route("/events/batch", post(post_batch::post_batch))
        .route("/events/{id}", get(get_event::get_event))
        .route("/events/{id}/payload", get(operate::payload))
        .route("/events/{id}/cancel", post(operate::cancel))
        .route("/events/{id}/replay", post(operate::replay))
        .route_layer(from_fn(connections::with_place))
        // The last layer runs first: only an authorized request gets a place.
        .route_layer(from_fn_with_state(Arc::clone(&api), auth::authorize));
    let routes = if has_api_role { events.merge(operations) } else { operations };
    routes.method_not_allowed_fallback(method_not_allowed).fallback(not_found).with_state(api)
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
