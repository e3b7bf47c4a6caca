//! The stand-in's deliveries: due events are claimed in the map, signed, posted and settled.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio::time::{Instant, sleep};

use super::Outcome;
use super::stand_in::{Attempt, Event, Worker};

/// Wait between two looks for due events.
const LOOK: Duration = Duration::from_millis(10);

/// Largest body of an answer, as the contract says: some answers have no end.
const RESPONSE_BYTES_MAX: usize = 1024 * 1024;

/// Delivers until its runtime ends.
pub(super) async fn run(worker: Worker) {
    let deadline = Duration::from_millis(worker.setting_ms("HTTP_TIMEOUT", 15_000));
    let http = crate::http_client(deadline);
    loop {
        for (id, event) in claim(&worker) {
            tokio::spawn(attempt(worker.clone(), http.clone(), id, event));
        }
        sleep(LOOK).await;
    }
}

fn claim(worker: &Worker) -> Vec<(String, Event)> {
    let now = Instant::now();
    let mut held = worker.held();
    let mut open = Open::of(worker, held.events.values());
    let due = held.events.iter_mut().filter(|(_, e)| {
        let is_due = e.status == "pending" && is_free(worker, e) && e.due <= now;
        is_due && open.takes(&e.target)
    });
    due.map(|(id, event)| {
        event.holders.push(worker.spec.name.clone());
        event.attempt_count += u32::from(worker.lie.counts_attempt(event.failures));
        (id.clone(), event.clone())
    })
    .collect()
}

/// How many attempts a worker has open, and how many of them to each host.
struct Open {
    in_all: usize,
    in_all_max: usize,
    by_host: BTreeMap<String, usize>,
    by_host_max: usize,
}

impl Open {
    fn of<'e>(worker: &Worker, events: impl Iterator<Item = &'e Event>) -> Open {
        let capped = worker.lie.caps_hosts();
        let per_host = worker.setting("MAX_IN_FLIGHT_PER_HOST", 64);
        let mut open = Open {
            in_all: 0,
            in_all_max: worker.setting("MAX_IN_FLIGHT", 512),
            by_host: BTreeMap::new(),
            by_host_max: if capped { per_host } else { usize::MAX },
        };
        for event in events.filter(|event| event.is_held_by(&worker.spec.name)) {
            open.begin(&event.target);
        }
        open
    }

    /// Whether one more may begin; if so, it does.
    fn takes(&mut self, target: &str) -> bool {
        let to_host = self.by_host.get(host(target)).copied().unwrap_or(0);
        let takes = self.in_all < self.in_all_max && to_host < self.by_host_max;
        if takes {
            self.begin(target);
        }
        takes
    }

    fn begin(&mut self, target: &str) {
        self.in_all += 1;
        *self.by_host.entry(host(target).to_owned()).or_default() += 1;
    }
}

/// The host and port of a target.
fn host(target: &str) -> &str {
    target.split('/').nth(2).unwrap_or(target)
}

fn is_free(worker: &Worker, event: &Event) -> bool {
    if worker.lie.respects_claims() {
        event.holders.is_empty()
    } else {
        !event.is_held_by(&worker.spec.name)
    }
}

async fn attempt(worker: Worker, http: reqwest::Client, id: String, event: Event) {
    let outcome = if worker.lie.sends(event.number) {
        send(&worker, &http, &id, &event).await
    } else {
        Ok(200)
    };
    settle(&worker, &id, event.attempt_count, outcome);
}

async fn send(worker: &Worker, http: &reqwest::Client, id: &str, event: &Event) -> Outcome {
    let timestamp = chrono::Utc::now().timestamp();
    let body = worker.lie.body(&event.payload);
    let signed = worker.lie.signed_bytes(body.as_bytes());
    let signature = sign(worker, id, timestamp, &signed);
    let request = http
        .post(worker.lie.target(&event.target))
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
    } else {
        "reset"
    }
}

fn sign(worker: &Worker, id: &str, timestamp: i64, body: &[u8]) -> String {
    let secret = worker
        .spec
        .env
        .get("WEBHOOK_SECRET")
        .map_or("", String::as_str);
    let key = BASE64
        .decode(secret.trim_start_matches("whsec_"))
        .unwrap_or_default();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("a key may have any length");
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body);
    format!("v1,{}", BASE64.encode(mac.finalize().into_bytes()))
}

fn settle(worker: &Worker, id: &str, number: u32, outcome: Outcome) {
    let mut held = worker.held();
    let Some(event) = held.events.get_mut(id) else {
        return;
    };
    if !event.is_held_by(&worker.spec.name) {
        return;
    }
    event.let_go(&worker.spec.name);
    let success = worker.lie.is_success(outcome);
    event.attempts.push(Attempt {
        number,
        outcome: match outcome {
            _ if success => "delivered",
            Ok(_) => "rejected",
            Err(class) => class,
        },
        status_code: outcome.ok(),
    });
    if success {
        event.status = "delivered";
        return;
    }
    event.failures += 1;
    let max = worker.setting("MAX_ATTEMPTS", 20);
    if event.failures >= worker.lie.budget(max) {
        event.status = "dead";
        return;
    }
    event.due = Instant::now() + delay(worker, event.failures, outcome);
}

fn delay(worker: &Worker, failures: u32, outcome: Outcome) -> Duration {
    let base_ms = worker.setting_ms("BACKOFF_BASE_SECONDS", 2_000);
    let cap_ms = worker.setting_ms("BACKOFF_CAP_SECONDS", 3_600_000);
    // Rounded up, and late enough for every Retry-After of the scripts.
    let ruled_ms = base_ms
        .saturating_mul(1 << (failures - 1).min(40))
        .min(cap_ms)
        + 1;
    let asked_ms = match outcome {
        Ok(429 | 503) => 1_001,
        _ => 0,
    };
    Duration::from_millis(worker.lie.delay_ms(ruled_ms, asked_ms))
}
