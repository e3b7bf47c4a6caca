//! The API of the fake dispatcher: the part of the contract that the runner uses.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::StreamExt as _;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::sleep;
use uuid::Uuid;

use super::super::misbehavior::Replies;
use super::memory::{Event, KeyedPost, Worker};

#[derive(Deserialize)]
struct Posted<'a> {
    #[serde(borrow)]
    payload: &'a RawValue,
    target_url: String,
}

/// Serves until the worker's runtime ends.
pub(super) async fn serve(listener: std::net::TcpListener, worker: Worker) {
    let Ok(listener) = TcpListener::from_std(listener) else {
        return;
    };
    let Ok(listener) = behind_limit(listener, &worker).await else {
        return;
    };
    let router = Router::new()
        .route("/events", post(post_event))
        .route("/events/{id}", get(find_event))
        .route("/livez", get(|| async { StatusCode::OK }))
        .route("/readyz", get(readyz))
        .with_state(worker);
    let _ = axum::serve(listener, router).await;
}

/// Reports readiness by the database of the worker, if it has one.
async fn readyz(State(worker): State<Worker>) -> StatusCode {
    let responds = match &worker.database {
        Some(database) => database.responds().await,
        None => true,
    };
    match worker.misbehavior.is_ready(responds) {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// Returns the listener of the API. If the first connections are kept, it is behind another one,
/// which passes a limited number of connections.
async fn behind_limit(listener: TcpListener, worker: &Worker) -> io::Result<TcpListener> {
    if !worker.misbehavior.keeps_first_connections() {
        return Ok(listener);
    }
    let api = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let places = worker.setting("MAX_API_CONNECTIONS", 10_000);
    tokio::spawn(pass(listener, api.local_addr()?, Arc::new(Semaphore::new(places))));
    Ok(api)
}

/// Passes connections to the API. Without a free place, a connection waits until another one ends.
async fn pass(listener: TcpListener, api: SocketAddr, places: Arc<Semaphore>) {
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let Ok((mut client, _)) = listener.accept().await else {
            return;
        };
        tokio::spawn(async move {
            if let Ok(mut passed) = TcpStream::connect(api).await {
                let _ = copy_bidirectional(&mut client, &mut passed).await;
            }
            drop(place);
        });
    }
}

/// Returns the reply of an API that breaks the contract, or `None` if it does not.
async fn refusal(replies: Replies) -> Option<Response> {
    match replies {
        Replies::Contract => None,
        Replies::Unavailable => Some(StatusCode::SERVICE_UNAVAILABLE.into_response()),
        Replies::Never => std::future::pending().await,
    }
}

async fn post_event(State(worker): State<Worker>, headers: HeaderMap, body: Body) -> Response {
    if let Some(refusal) = refusal(worker.misbehavior.posts()).await {
        return refusal;
    }
    let Some(body) = read(&worker, body).await else {
        return (StatusCode::BAD_REQUEST, "incomplete body").into_response();
    };
    let posted: Posted<'_> = match serde_json::from_slice(&body) {
        Ok(posted) => posted,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    let id = Uuid::now_v7();
    if let Some(database) = &worker.database
        && database.insert(id, &posted.target_url, posted.payload.get()).await.is_err()
    {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok());
    let Some(id) = accept(&worker, id, key, &posted) else {
        return (StatusCode::CONFLICT, "the key belongs to another event").into_response();
    };
    let accepted = json!({"id": id, "status": "accepted"}).to_string();
    (StatusCode::ACCEPTED, accepted).into_response()
}

/// Returns the complete body, or `None` if the client interrupted it.
async fn read(worker: &Worker, body: Body) -> Option<Vec<u8>> {
    let mut pieces = body.into_data_stream();
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.next().await {
        match piece {
            Ok(piece) => bytes.extend_from_slice(&piece),
            Err(_) if worker.misbehavior.requires_complete_bodies() => return None,
            Err(_) => break,
        }
    }
    Some(bytes)
}

/// Stores the event with this id unless its key is known, and returns its id. Returns `None` if the
/// key belongs to another event.
fn accept(worker: &Worker, id: Uuid, key: Option<&str>, posted: &Posted<'_>) -> Option<String> {
    let mut memory = worker.memory();
    let key = key.filter(|_| worker.misbehavior.remembers_keys());
    if let Some(known) = key.and_then(|key| memory.keys.get(key)) {
        let same = known.payload == posted.payload.get() && known.target == posted.target_url;
        return (same || !worker.misbehavior.compares_bytes()).then(|| known.id.clone());
    }
    let id = id.to_string();
    if let Some(key) = key {
        let keyed = KeyedPost {
            id: id.clone(),
            payload: posted.payload.get().to_owned(),
            target: posted.target_url.clone(),
        };
        memory.keys.insert(key.to_owned(), keyed);
    }
    memory.accepted += 1;
    let (payload, target) = (posted.payload.get().to_owned(), posted.target_url.clone());
    let event = Event::new(memory.accepted, payload, target);
    if !worker.misbehavior.stores(event.number) {
        return Some(id);
    }
    match worker.misbehavior.commit_delay() {
        None => {
            memory.events.insert(id.clone(), event);
        }
        Some(delay) => {
            let (worker, id) = (worker.clone(), id.clone());
            tokio::spawn(async move {
                sleep(delay).await;
                worker.memory().events.insert(id, event);
            });
        }
    }
    Some(id)
}

async fn find_event(State(worker): State<Worker>, Path(id): Path<String>) -> Response {
    if let Some(refusal) = refusal(worker.misbehavior.reads()).await {
        return refusal;
    }
    let Some(mut event) = worker.memory().events.get(&id).cloned() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    event.attempts.sort_by_key(|attempt| attempt.number);
    let view = json!({
        "id": id,
        "status": event.status,
        "reason": (event.status == "dead").then_some("exhausted"),
        "attempt_count": event.attempt_count,
        "attempts": event.attempts,
    });
    (StatusCode::OK, view.to_string()).into_response()
}
