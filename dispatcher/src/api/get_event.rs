//! `GET /events/{id}`: the event with all of its attempts that have a result.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use uuid::fmt::Hyphenated;

use super::problem::Problem;
use super::state::Api;
use crate::event::EventId;
use crate::store::EventView;

pub(super) async fn get_event(
    State(api): State<Arc<Api>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<EventView>, Problem> {
    // The path is not UTF-8, for example `%ff`. No event has such an id.
    let Path(id) = id.map_err(|error| Problem::not_found(error.body_text()))?;
    let missing = || Problem::not_found(format!("there is no event with the id {id:?}"));
    // Only the form in which the API returns ids. `Uuid` accepts three other ones.
    let id = id.parse::<Hyphenated>().map_err(|_| missing())?;
    api.require_schema("try again")?;
    let found = api.store.find(EventId(id.into_uuid())).await.map_err(|error| {
        api.log_outage(&error);
        Problem::unavailable("the database is unavailable; try again")
    })?;
    found.map(Json).ok_or_else(missing)
}
