//! One HTTP client of the API: sends bodies byte for byte and says what is certain about the answer.

use std::error::Error;
use std::time::Duration;

use serde::Deserialize;

use crate::history::op::{AttemptSeen, State};

/// Whole deadline of a request to the API.
const DEADLINE: Duration = Duration::from_secs(10);

/// A post, as it goes over the wire.
#[derive(Clone, Copy, Debug)]
pub(super) struct Post<'a> {
    /// The exact JSON text of the payload.
    pub(super) payload: &'a str,
    /// The target that it names.
    pub(super) target: &'a str,
    /// Its idempotency key.
    pub(super) key: Option<&'a str>,
}

/// What is certain about a post.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// A whole 202 with this id.
    Accepted(String),
    /// A 4xx of the contract: nothing was stored.
    Refused(u16, String),
    /// The connection was refused before a byte was sent.
    Unreachable(String),
    /// Nothing is certain; with the status of the answer, if a whole one came.
    Unknown(Option<u16>, String),
}

impl Post<'_> {
    /// The body. Written by hand: a JSON library would not leave the payload's bytes alone.
    pub(super) fn body(&self) -> String {
        let Post {
            payload, target, ..
        } = self;
        format!(r#"{{"payload":{payload},"target_url":"{target}"}}"#)
    }
}

impl Answer {
    /// What a whole answer says.
    pub(super) fn of(status: u16, body: &[u8]) -> Answer {
        let told = || String::from_utf8_lossy(body).into_owned();
        match status {
            202 => match serde_json::from_slice::<Accepted>(body) {
                Ok(accepted) => Answer::Accepted(accepted.id),
                Err(error) => Answer::Unknown(Some(status), format!("no id: {error}")),
            },
            // 408 and 429 say nothing about what was stored.
            400..500 if status != 408 && status != 429 => Answer::Refused(status, told()),
            _ => Answer::Unknown(Some(status), told()),
        }
    }
}

/// An HTTP client that follows nothing and repeats nothing.
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
        Client {
            http: crate::http_client(DEADLINE),
        }
    }

    pub(super) async fn post(&self, api: &str, post: Post<'_>) -> Answer {
        let mut request = self
            .http
            .post(format!("{api}/events"))
            .header("content-type", "application/json")
            .body(post.body());
        if let Some(key) = post.key {
            request = request.header("idempotency-key", key);
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_connect() => return Answer::Unreachable(told(&error)),
            Err(error) => return Answer::Unknown(None, told(&error)),
        };
        let status = response.status().as_u16();
        match response.bytes().await {
            Ok(body) => Answer::of(status, &body),
            Err(error) => Answer::Unknown(None, format!("{status}, then {}", told(&error))),
        }
    }

    pub(super) async fn read(&self, api: &str, ordinal: u64, id: &str) -> State {
        let mut state = State::unread(ordinal, id);
        let Ok(response) = self.http.get(format!("{api}/events/{id}")).send().await else {
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
                let AttemptView {
                    number,
                    outcome,
                    status_code,
                } = a;
                AttemptSeen {
                    number,
                    outcome,
                    status_code,
                }
            };
            state.attempts = view.attempts.into_iter().map(seen).collect();
        }
        state
    }
}

/// The innermost cause, which is the one that tells something.
fn told(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
