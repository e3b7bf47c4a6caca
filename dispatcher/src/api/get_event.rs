//! `GET /events/{id}`: the event with all of its attempts that have a result. The id is read in the
//! same way for the other routes of one event.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use uuid::fmt::Hyphenated;

use super::problem::Problem;
use super::state::Api;
use crate::event::EventId;
use crate::store::{EventView, StoreError};

/// The event that the path names. Without a current schema, the request gets a 503.
pub(super) struct Named(pub(super) EventId);

impl FromRequestParts<Arc<Api>> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        // The path is not UTF-8, for example `%ff`. No event has such an id.
        let path = Path::<String>::from_request_parts(parts, api).await;
        let Path(id) = path.map_err(|error| Problem::not_found(error.body_text()))?;
        // Only the form in which the API returns ids. `Uuid` accepts three other ones.
        let id = id.parse::<Hyphenated>().map_err(|_| unknown(&id))?;
        api.require_schema("try again")?;
        Ok(Self(EventId(id.into_uuid())))
    }
}

impl Named {
    /// Returns what the store found. `doubt` says what the client cannot know after an error.
    pub(super) fn found<T>(
        &self,
        api: &Api,
        result: Result<Option<T>, StoreError>,
        doubt: &str,
    ) -> Result<T, Problem> {
        let found = result.map_err(|error| {
            api.log_outage(&error);
            Problem::unavailable(format!("the database is unavailable; {doubt}try again"))
        })?;
        found.ok_or_else(|| unknown(&self.0.to_string()))
    }
}

/// Runs a call of the store to its end, also if the client disconnects and its request is dropped:
/// dropping a running statement closes its database connection.
pub(super) async fn completed<T: Send + 'static>(
    call: impl Future<Output = T> + Send + 'static,
) -> T {
    tokio::spawn(call).await.expect("a call of the store does not panic")
}

fn unknown(id: &str) -> Problem {
    Problem::not_found(format!("there is no event with the id {id:?}"))
}

pub(super) async fn get_event(
    State(api): State<Arc<Api>>,
    named: Named,
) -> Result<Json<EventView>, Problem> {
    let (store, id) = (api.store.clone(), named.0);
    let found = completed(async move { store.find(id).await }).await;
    named.found(&api, found, "").map(Json)
}
