//! The deliveries of the fake dispatcher: it claims due events, signs them, posts them and settles.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::super::misbehavior::HttpResult;
use super::database::ForeignRow;
use super::memory::{Attempt, Event, Worker};
use crate::pair;

/// Interval between two claims.
const POLL: Duration = Duration::from_millis(10);
/// Interval between two claims of a worker with a database, which executes a statement for each.
const POLL_DATABASE: Duration = Duration::from_millis(50);

/// Largest response body that is read, in bytes. Some scripted responses are endless.
const RESPONSE_BYTES_MAX: usize = 1024 * 1024;

/// Delivers events until the worker is stopped and its last attempt has ended.
pub(super) async fn run(worker: Worker) {
    let deadline = Duration::from_millis(worker.setting_ms("HTTP_TIMEOUT", 15_000));
    let addresses = [pair::FIRST, pair::SECOND].map(|ip| SocketAddr::from((ip, 0)));
    // The client divides this time among the addresses.
    let http = crate::http_client_builder(deadline)
        .connect_timeout(deadline / 2)
        .resolve_to_addrs(pair::HOST, worker.misbehavior.addresses(&addresses))
        .build()
        .expect("these settings are valid");
    let poll = if worker.database.is_some() { POLL_DATABASE } else { POLL };
    let mut attempts = JoinSet::new();
    while !worker.stop.is_cancelled() {
        for (id, event) in claim(&worker).await {
            if let Some(database) = &worker.database
                && worker.misbehavior.fetches_in_turn()
            {
                database.fetch_payload(row_id(&id)).await;
            }
            attempts.spawn(attempt(worker.clone(), http.clone(), id, event));
        }
        while attempts.try_join_next().is_some() {}
        sleep(poll).await;
    }
    while attempts.join_next().await.is_some() {}
}

/// Claims due events, if the database of the worker accepts writes.
async fn claim(worker: &Worker) -> Vec<(String, Event)> {
    if let Some(database) = &worker.database {
        let rows_max = worker.misbehavior.foreign_rows_max().saturating_sub(foreign_rows(worker));
        let rows_max = i64::try_from(rows_max).unwrap_or(i64::MAX);
        let Ok(rows) = database.claim(rows_max).await else {
            return Vec::new();
        };
        let mut memory = worker.memory();
        for ForeignRow { id, target, payload } in rows {
            let event = Event { is_foreign: true, ..Event::new(0, payload, target) };
            memory.events.insert(id.to_string(), event);
        }
    }
    claim_due(worker)
}

/// The number of rows of other clients that the worker holds.
fn foreign_rows(worker: &Worker) -> usize {
    let memory = worker.memory();
    memory.events.values().filter(|event| event.is_foreign).count()
}

/// The id of the row of an event.
fn row_id(id: &str) -> Uuid {
    id.parse().expect("each event has a UUID")
}

/// Claims events of the memory that are due, the earliest first.
fn claim_due(worker: &Worker) -> Vec<(String, Event)> {
    let now = Instant::now();
    let mut memory = worker.memory();
    let mut open = OpenAttempts::of(worker, memory.events.values());
    let due = memory
        .events
        .iter_mut()
        .filter(|(_, e)| e.status == "pending" && is_free(worker, e) && e.due <= now);
    let mut due: Vec<(&String, &mut Event)> = due.collect();
    due.sort_by_key(|(_, event)| event.due);
    due.retain(|(_, event)| open.admits(&event.target));
    due.into_iter()
        .map(|(id, event)| {
            event.holders.push(worker.spec.name.clone());
            event.attempt_count += u32::from(worker.misbehavior.counts_attempt(event.failures));
            (id.clone(), event.clone())
        })
        .collect()
}

/// The open attempts of a worker and their limits, in total and per host.
struct OpenAttempts {
    total: usize,
    total_max: usize,
    by_host: BTreeMap<String, usize>,
    by_host_max: usize,
}

impl OpenAttempts {
    fn of<'e>(worker: &Worker, events: impl Iterator<Item = &'e Event>) -> Self {
        let limited = worker.misbehavior.limits_hosts();
        let per_host = worker.setting("MAX_IN_FLIGHT_PER_HOST", 64);
        let mut open = Self {
            total: 0,
            total_max: worker.setting("MAX_IN_FLIGHT", 512),
            by_host: BTreeMap::new(),
            by_host_max: if limited { per_host } else { usize::MAX },
        };
        for event in events.filter(|event| event.is_held_by(&worker.spec.name)) {
            open.begin(&event.target);
        }
        open
    }

    /// Counts one more attempt to a target and returns true, unless a limit is reached.
    fn admits(&mut self, target: &str) -> bool {
        let to_host = self.by_host.get(host(target)).copied().unwrap_or(0);
        let admits = self.total < self.total_max && to_host < self.by_host_max;
        if admits {
            self.begin(target);
        }
        admits
    }

    fn begin(&mut self, target: &str) {
        self.total += 1;
        *self.by_host.entry(host(target).to_owned()).or_default() += 1;
    }
}

/// Returns host and port of a target.
fn host(target: &str) -> &str {
    target.split('/').nth(2).unwrap_or(target)
}

fn is_free(worker: &Worker, event: &Event) -> bool {
    if worker.misbehavior.respects_claims() {
        event.holders.is_empty()
    } else {
        !event.is_held_by(&worker.spec.name)
    }
}

async fn attempt(worker: Worker, http: reqwest::Client, id: String, event: Event) {
    let (misbehavior, attempt) = (worker.misbehavior, event.attempt_count);
    let result = match misbehavior.result_without_sending(event.number, attempt) {
        Some(result) => result,
        None => send(&worker, &http, &id, &event).await,
    };
    let written = worker.log.append(&format!("attempt {attempt} of {id}: {result:?}"));
    if misbehavior.waits_for_its_log() {
        let _failed_or_dropped = written.await;
    }
    if let Some(database) = &worker.database {
        let status = match misbehavior.is_success(result) {
            true => "delivered",
            // A row of another client is sent once.
            false if event.is_foreign => "dead",
            false => "pending",
        };
        database.record(row_id(&id), status).await;
    }
    settle(&worker, &id, attempt, result);
}

async fn send(worker: &Worker, http: &reqwest::Client, id: &str, event: &Event) -> HttpResult {
    let timestamp = chrono::Utc::now().timestamp();
    let body = worker.misbehavior.body(&event.payload);
    let signed = worker.misbehavior.signed_bytes(body.as_bytes());
    let signature = sign(worker, id, timestamp, signed);
    let previous = worker.memory().last_target.replace(event.target.clone());
    let target = worker.misbehavior.target(&event.target, previous.as_deref());
    if worker.misbehavior.trusts_kept_connections() {
        let text = format!(
            "POST /{path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nwebhook-id: {id}\r\nwebhook-timestamp: {timestamp}\r\n\
             webhook-signature: {signature}\r\nwebhook-attempt: {}\r\n\r\n{body}",
            body.len(),
            event.attempt_count,
            path = target.splitn(4, '/').nth(3).unwrap_or_default(),
            host = host(&target),
        );
        let deadline = Duration::from_millis(worker.setting_ms("HTTP_TIMEOUT", 15_000));
        let exchange = worker.kept.exchange(host(&target), text.as_bytes());
        let exchanged = timeout(deadline, exchange).await.map_err(|_| "timeout")?;
        return exchanged.map_err(|_| "reset");
    }
    // Each request has a new connection, so that no response of another request is on it.
    let request = http
        .post(target)
        .header("connection", "close")
        .header("content-type", "application/json")
        .header("webhook-id", id)
        .header("webhook-timestamp", timestamp)
        .header("webhook-signature", signature)
        .header("webhook-attempt", event.attempt_count)
        .body(body);
    let mut response = request.send().await.map_err(|error| class(&error))?;
    let mut read = 0;
    while let Some(piece) = response.chunk().await.map_err(|error| class(&error))? {
        read += piece.len();
        if read > RESPONSE_BYTES_MAX {
            return Err("response_too_large");
        }
    }
    Ok(response.status().as_u16())
}

fn class(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        "timeout"
    } else if error.is_connect() {
        "connect"
    } else {
        "reset"
    }
}

fn sign(worker: &Worker, id: &str, timestamp: i64, body: &[u8]) -> String {
    let secret = worker.spec.env.get("WEBHOOK_SECRET").map_or("", String::as_str);
    let key = BASE64.decode(secret.trim_start_matches("whsec_")).unwrap_or_default();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("a key may have any length");
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body);
    format!("v1,{}", BASE64.encode(mac.finalize().into_bytes()))
}

fn settle(worker: &Worker, id: &str, number: u32, result: HttpResult) {
    let mut memory = worker.memory();
    let Some(event) = memory.events.get_mut(id) else {
        return;
    };
    if !event.is_held_by(&worker.spec.name) {
        return;
    }
    if event.is_foreign {
        memory.events.remove(id);
        return;
    }
    event.end_claim_of(&worker.spec.name);
    let success = worker.misbehavior.is_success(result);
    event.attempts.push(Attempt {
        number,
        outcome: match result {
            _ if success => "delivered",
            Ok(_) => "rejected",
            Err(class) => class,
        },
        status_code: result.ok(),
    });
    if success {
        event.status = "delivered";
        return;
    }
    event.failures += 1;
    let max = worker.setting("MAX_ATTEMPTS", 20);
    if event.failures >= worker.misbehavior.attempts_max(max) {
        event.status = "dead";
        return;
    }
    event.due = Instant::now() + delay(worker, event.failures, result);
}

fn delay(worker: &Worker, failures: u32, result: HttpResult) -> Duration {
    let base_ms = worker.setting_ms("BACKOFF_BASE_SECONDS", 2_000);
    let cap_ms = worker.setting_ms("BACKOFF_CAP_SECONDS", 3_600_000);
    // Rounded up. Scripts request at most 1 s by Retry-After.
    let rule_ms = base_ms.saturating_mul(1 << (failures - 1).min(40)).min(cap_ms) + 1;
    let requested_ms = match result {
        Ok(429 | 503) => 1_001,
        _ => 0,
    };
    Duration::from_millis(worker.misbehavior.delay_ms(rule_ms, requested_ms))
}
