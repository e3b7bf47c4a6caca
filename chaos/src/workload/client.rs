//! An HTTP client of the API. It sends bodies byte for byte, and returns only a certain result.

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;

use crate::history::op::{AttemptSeen, State};

/// The key that the workers of the main section require, and that each client sends.
pub(crate) const API_KEY: &str = "key-of-the-harness";
/// Deadline of a request to the API.
const DEADLINE: Duration = Duration::from_secs(10);

/// A post with its exact content.
#[derive(Clone, Copy, Debug)]
pub(super) struct Post<'a> {
    /// The exact JSON text of the payload.
    pub(super) payload: &'a str,
    /// The URL of the receiver.
    pub(super) target: &'a str,
    /// Its idempotency key.
    pub(super) key: Option<&'a str>,
}

/// The certain result of a post.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PostResult {
    /// A complete 202 with this id.
    Accepted(String),
    /// A 4xx of the contract, with its body: the event was not stored.
    Refused(u16, String),
    /// The connection was refused before the first byte was sent.
    Unreachable(String),
    /// The event may have been stored. Has the status of a complete response, if there was one.
    Unknown(Option<u16>, String),
}

impl Post<'_> {
    /// The body. It is not written by a JSON library, which would change the bytes of the payload.
    pub(super) fn body(&self) -> String {
        let Post { payload, target, .. } = self;
        format!(r#"{{"payload":{payload},"target_url":"{target}"}}"#)
    }
}

impl PostResult {
    /// The result of a complete response.
    pub(super) fn of(status: u16, body: &[u8]) -> PostResult {
        let text = || String::from_utf8_lossy(body).into_owned();
        match status {
            202 => match serde_json::from_slice::<Accepted>(body) {
                Ok(accepted) => PostResult::Accepted(accepted.id),
                Err(error) => PostResult::Unknown(Some(status), format!("no id: {error}")),
            },
            // After a 408 or a 429 the event may have been stored.
            400..500 if status != 408 && status != 429 => PostResult::Refused(status, text()),
            _ => PostResult::Unknown(Some(status), text()),
        }
    }
}

/// An HTTP client without redirects and retries.
#[derive(Clone, Debug)]
pub(super) struct Client {
    http: reqwest::Client,
}

#[derive(Deserialize)]
struct Accepted {
    id: String,
}

#[derive(Deserialize)]
struct View {
    status: String,
    reason: Option<String>,
    attempt_count: u32,
    attempts: Vec<AttemptView>,
}

#[derive(Deserialize)]
struct AttemptView {
    number: u32,
    outcome: String,
    status_code: Option<u16>,
}

impl Client {
    pub(super) fn new() -> Client {
        Client { http: crate::http_client(DEADLINE) }
    }

    pub(super) async fn post(&self, api: &str, post: Post<'_>) -> PostResult {
        let mut request = self
            .http
            .post(format!("{api}/events"))
            .bearer_auth(API_KEY)
            .header("content-type", "application/json")
            .body(post.body());
        if let Some(key) = post.key {
            request = request.header("idempotency-key", key);
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_connect() => return PostResult::Unreachable(root_cause(&error)),
            Err(error) => return PostResult::Unknown(None, root_cause(&error)),
        };
        let status = response.status().as_u16();
        match response.bytes().await {
            Ok(body) => PostResult::of(status, &body),
            Err(error) => {
                PostResult::Unknown(None, format!("{status}, then {}", root_cause(&error)))
            }
        }
    }

    /// Requests the health of an API over a separate connection. Returns the status of a complete
    /// response.
    pub(super) async fn health(&self, api: SocketAddr, path: &str) -> Option<u16> {
        let request = self.http.get(format!("http://{api}{path}")).header("connection", "close");
        let response = request.send().await.ok()?;
        let status = response.status().as_u16();
        response.bytes().await.ok().map(|_| status)
    }

    pub(super) async fn read(&self, api: &str, ordinal: u64, id: &str) -> State {
        let mut state = State::unread(ordinal, id);
        let request = self.http.get(format!("{api}/events/{id}")).bearer_auth(API_KEY);
        let Ok(response) = request.send().await else {
            return state;
        };
        let http = response.status().as_u16();
        let Ok(body) = response.bytes().await else {
            return state;
        };
        state.http = http;
        if let Ok(view) = serde_json::from_slice::<View>(&body) {
            state.status = Some(view.status);
            state.reason = view.reason;
            state.attempt_count = Some(view.attempt_count);
            let seen = |a: AttemptView| {
                let AttemptView { number, outcome, status_code } = a;
                AttemptSeen { number, outcome, status_code }
            };
            state.attempts = view.attempts.into_iter().map(seen).collect();
        }
        state
    }
}

/// The innermost cause of an error. The outer ones do not name the reason.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
