//! The stand-in's deliveries: due events are claimed in the map, signed, posted and settled.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio::time::{Instant, sleep};

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
        .filter(|(_, e)| e.status == "pending" && e.holder.is_none() && e.due <= now);
    due.map(|(id, event)| {
        event.holder = Some(worker.spec.name.clone());
        event.attempt_count += 1;
        (id.clone(), event.clone())
    })
    .collect()
}

async fn attempt(worker: Worker, http: reqwest::Client, id: String, event: Event) {
    let outcome = if worker.lie.sends(event.number) {
        send(&worker, &http, &id, &event).await
    } else {
        Ok(200)
    };
    settle(&worker, &id, outcome);
}

async fn send(
    worker: &Worker,
    http: &reqwest::Client,
    id: &str,
    event: &Event,
) -> Result<u16, &'static str> {
    let timestamp = chrono::Utc::now().timestamp();
    let signed = worker.lie.signed_bytes(event.payload.as_bytes());
    let signature = sign(worker, id, timestamp, &signed);
    let request = http
        .post(&event.target)
        .header("content-type", "application/json")
        .header("webhook-id", id)
        .header("webhook-timestamp", timestamp)
        .header("webhook-signature", signature)
        .header("webhook-attempt", event.attempt_count)
        .body(event.payload.clone());
    let response = request.send().await.map_err(|_| "reset")?;
    let status = response.status().as_u16();
    response.bytes().await.map_err(|_| "body")?;
    Ok(status)
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

fn settle(worker: &Worker, id: &str, outcome: Result<u16, &'static str>) {
    let base = worker.setting_ms("BACKOFF_BASE_SECONDS", 2_000);
    let cap = worker.setting_ms("BACKOFF_CAP_SECONDS", 3_600_000);
    let mut held = worker.held();
    let Some(event) = held.events.get_mut(id) else {
        return;
    };
    if event.holder.as_deref() != Some(worker.spec.name.as_str()) {
        return;
    }
    event.holder = None;
    let number = event.attempt_count;
    let (outcome, status_code) = match outcome {
        Ok(status) if (200..300).contains(&status) => ("delivered", Some(status)),
        Ok(status) => ("rejected", Some(status)),
        Err(class) => (class, None),
    };
    event.attempts.push(Attempt {
        number,
        outcome,
        status_code,
    });
    if outcome == "delivered" {
        event.status = "delivered";
        return;
    }
    event.failures += 1;
    let budget = worker
        .spec
        .env
        .get("MAX_ATTEMPTS")
        .and_then(|text| text.parse().ok());
    if event.failures >= budget.unwrap_or(20) {
        event.status = "dead";
        return;
    }
    let delay = base
        .saturating_mul(1 << (event.failures - 1).min(40))
        .min(cap);
    // Rounded up, and late enough for every Retry-After of the scripts.
    let asked = if matches!(status_code, Some(429 | 503)) {
        1_000
    } else {
        0
    };
    event.due = Instant::now() + Duration::from_millis(delay.max(asked) + 1);
}
