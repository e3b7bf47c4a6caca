//! `POST /events/batch`: stores many events in one durable commit, and responds with one result per
//! item, in order. An item that is refused does not affect the others.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use serde::Serialize;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::body::{self, BatchBody};
use super::get_event::completed;
use super::post_event::{check_key, new_event, require_json};
use super::problem::Problem;
use super::state::Api;
use crate::event::{EventId, NewEvent};
use crate::store::{Inserted, NewRow, Store, StoreError};

/// Maximum number of items.
const ITEMS_MAX: usize = 1_000;

/// Maximum wait for keys that other transactions hold, so that a 503 is sent within two seconds.
const LOCK_WAIT_MAX: Duration = Duration::from_millis(500);

/// Name of the member with the key of an item.
const KEY: &str = "idempotency_key";

#[derive(Serialize)]
pub(super) struct Results {
    data: Vec<ItemResult>,
}

#[derive(Serialize)]
struct ItemResult {
    status: u16,
    #[serde(flatten)]
    what: What,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum What {
    Id(EventId),
    Problem(Problem),
}

impl From<Result<EventId, Problem>> for ItemResult {
    fn from(result: Result<EventId, Problem>) -> Self {
        match result {
            Ok(id) => Self { status: 202, what: What::Id(id) },
            Err(problem) => Self { status: problem.status(), what: What::Problem(problem) },
        }
    }
}

pub(super) async fn post_batch(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Json<Results>, Problem> {
    let start = Instant::now();
    require_json(request.headers())?;
    let (bytes, reserved) = body::read(request, api.config.body_bytes_max, &api.body_bytes).await?;
    let parsing_api = Arc::clone(&api);
    let parsing = spawn_blocking(move || parse(&parsing_api, &bytes));
    let items = parsing.await.expect("parsing does not panic")?;
    api.require_schema("nothing was stored, try again")?;
    let mut results: Vec<Option<Result<EventId, Problem>>> = Vec::new();
    let mut events = Vec::new();
    for (place, item) in items.into_iter().enumerate() {
        results.push(match item {
            Ok(event) => {
                events.push((place, event));
                None
            }
            Err(problem) => Some(Err(problem)),
        });
    }
    // Statements that take their row locks in one order cannot deadlock.
    events.sort_by(|(_, a), (_, b)| a.idempotency_key.cmp(&b.idempotency_key));
    // The bytes stay reserved until the events are stored.
    let storing_api = Arc::clone(&api);
    let stored = completed(async move {
        let _reserved = reserved;
        store(&storing_api, events).await
    });
    for (place, result) in stored.await? {
        results[place] = Some(result);
    }
    let data: Vec<ItemResult> = results.into_iter().flatten().map(ItemResult::from).collect();
    for item in &data {
        api.shared.metrics.accepted(item.status, start.elapsed());
    }
    Ok(Json(Results { data }))
}

fn parse(api: &Api, bytes: &[u8]) -> Result<Vec<Result<NewEvent, Problem>>, Problem> {
    let batch: BatchBody<'_> = serde_json::from_slice(bytes).map_err(|error| {
        Problem::malformed(format!(r#"the body is not of the form {{"events": [...]}}: {error}"#))
    })?;
    let count = batch.events.len();
    if count > ITEMS_MAX {
        let detail = format!("the batch has {count} events; send at most {ITEMS_MAX}");
        return Err(Problem::malformed(detail).field("events"));
    }
    let item = |text: &str| {
        let mut body = body::parse_item(text)?;
        let key = body.idempotency_key.take();
        let key = key.map(|key| check_key(key.as_bytes()).map_err(|problem| problem.field(KEY)));
        new_event(api, key.transpose()?, body)
    };
    Ok(batch.events.iter().map(|text| item(text.get())).collect())
}

/// Stores events, each given with its place, in one commit. If Postgres refuses the data of a row,
/// the batch is halved until the row is alone, so that the others are stored.
async fn store(
    api: &Api,
    events: Vec<(usize, NewEvent)>,
) -> Result<Vec<(usize, Result<EventId, Problem>)>, Problem> {
    let (mut parts, mut results) = (vec![events], Vec::new());
    while let Some(mut part) = parts.pop() {
        if part.is_empty() {
            continue;
        }
        let rows: Vec<_> = part.iter().map(|(_, event)| NewRow { event, token: None }).collect();
        match insert(api, &rows).await {
            Ok(inserted) => {
                let results_of = part.iter().zip(inserted).map(|((place, _), inserted)| {
                    (
                        *place,
                        match inserted {
                            Inserted::Accepted(id) => Ok(id),
                            Inserted::Conflict(id) => Err(Problem::conflict(id).field(KEY)),
                        },
                    )
                });
                results.extend(results_of);
                api.shared.wake.notify_one();
            }
            Err(error) if error.is_about_the_data() && part.len() > 1 => {
                let rest = part.split_off(part.len() / 2);
                parts.extend([part, rest]);
            }
            Err(error) if error.is_about_the_data() => {
                results.push((part[0].0, Err(error.into())));
            }
            Err(error) => {
                api.log_outage(&error);
                return Err(error.into());
            }
        }
    }
    Ok(results)
}

/// Repeats the insert while a transaction elsewhere holds a key.
async fn insert(api: &Api, rows: &[NewRow<'_>]) -> Result<Vec<Inserted>, StoreError> {
    let start = Instant::now();
    loop {
        match api.store.insert(rows, None).await {
            Err(error) if error.is_locked() && start.elapsed() < LOCK_WAIT_MAX => {}
            result => return result.map(|rows| rows.events),
        }
    }
}
