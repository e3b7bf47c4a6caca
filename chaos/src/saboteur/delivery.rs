//! The stand-in's deliveries: due events are claimed in the map, signed, posted and settled.

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
    let due = held
        .events
        .iter_mut()
        .filter(|(_, e)| e.status == "pending" && is_free(worker, e) && e.due <= now);
    due.map(|(id, event)| {
        event.holders.push(worker.spec.name.clone());
        event.attempt_count += u32::from(worker.lie.counts_attempt(event.failures));
        (id.clone(), event.clone())
    })
    .collect()
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
    let response = request.send().await.map_err(|error| class(&error))?;
    let status = response.status().as_u16();
    response.bytes().await.map_err(|error| class(&error))?;
    Ok(status)
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
    let max = worker.spec.env.get("MAX_ATTEMPTS");
    let max = max.and_then(|text| text.parse().ok()).unwrap_or(20);
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
