//! `GET /events/{id}`: the event with all of its attempts that have a result.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use uuid::Uuid;
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
    let id = event_id(&id).ok_or_else(missing)?;
    api.require_schema("try again")?;
    let found = api.store.find(id).await.map_err(|error| {
        api.log_outage(&error);
        Problem::unavailable("the database is unavailable; try again")
    })?;
    found.map(Json).ok_or_else(missing)
}

/// Accepts only the form in which the API returns ids. The parser accepts three other ones.
fn event_id(text: &str) -> Option<EventId> {
    let hyphenated = text.len() == Hyphenated::LENGTH;
    let id = Uuid::try_parse(text).ok().filter(|_| hyphenated)?;
    Some(EventId(id))
}
