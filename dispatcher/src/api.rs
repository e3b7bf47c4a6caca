//! The HTTP side: the only route table, and the state that its handlers share.
//!
//! Handlers validate, ask the store, and answer; they know nothing of the worker but a handle to wake it.

mod auth;
mod body;
mod crowd;
mod get_event;
mod health;
mod idempotency_key;
mod outages;
mod post_event;
mod problem;
pub mod server;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::http::Uri;
use axum::routing::{get, post};
use tokio::sync::Notify;

use self::outages::Outages;
use self::problem::Problem;
use crate::config::ApiConfig;
use crate::metrics::Metrics;
use crate::store::PgStore;

/// What every handler sees.
#[derive(Clone, Debug)]
pub struct Api {
    store: PgStore,
    config: Arc<ApiConfig>,
    shared: Shared,
    outages: Arc<Outages>,
}

/// What the API has in common with the rest of its process.
#[derive(Clone, Debug, Default)]
pub struct Shared {
    /// Wakes the worker when an event was stored.
    pub wake: Arc<Notify>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Tells when the store can be used.
    pub migrated: Arc<Migrated>,
}

impl Api {
    /// The state over a store.
    pub fn new(store: PgStore, config: ApiConfig, shared: Shared) -> Self {
        Self {
            store,
            config: Arc::new(config),
            shared,
            outages: Arc::default(),
        }
    }
}

/// Set once the schema is current; until then every request for the database is answered 503.
#[derive(Debug, Default)]
pub struct Migrated(AtomicBool);

impl Migrated {
    /// The schema is current from now on.
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it is.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The whole API: events, health and metrics.
pub fn router(api: Api) -> Router {
    let events = Router::new()
        .route("/events", post(post_event::post_event))
        .route("/events/{id}", get(get_event::get_event))
        .route_layer(axum::middleware::from_fn_with_state(
            api.clone(),
            auth::authorize,
        ));
    events
        .merge(operations())
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .with_state(api)
}

/// What a process without the API role answers: health and metrics.
pub fn operations_router(api: Api) -> Router {
    operations()
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .with_state(api)
}

fn operations() -> Router<Api> {
    Router::new()
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
}

async fn not_found(uri: Uri) -> Problem {
    Problem::not_found(format!("there is nothing at {}", uri.path()))
}

async fn method_not_allowed(uri: Uri) -> Problem {
    Problem::method_not_allowed(format!("{} does not take this method", uri.path()))
}
