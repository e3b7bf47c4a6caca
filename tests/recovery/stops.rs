//! Graceful stops: sent attempts are settled, unsent claims are released, and the next process
//! continues.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chaos::system::System;
use dispatcher::Role;
use mock_receiver::Behavior;
use serde_json::json;

use super::{ENDLESS, accept, api, arrivals, event_with, failures, leases, wait_for_open};
use crate::support::app::{App, until};
use crate::support::db;
use crate::support::fixture::Endpoint;
use crate::support::names::NameServer;
use crate::support::process::Processes;
use crate::support::view::outcomes;

fn slow(after_ms: u64) -> Behavior {
    Behavior::Answer { status: 200, after_ms, retry_after: None }
}

// Two requests are open at a time. The other events are in the host queue or were released. So the
// stop meets events in all three states.
#[tokio::test]
async fn stop_settles_sent_attempts_and_releases_the_others() {
    let endpoint = Endpoint::start(|_| slow(500)).await;
    let database = db::database().await;
    let api = api(&database).await;
    let ids = accept(&api, &endpoint, 30).await;
    let worker = App::over(&database, Role::Worker, &[("MAX_IN_FLIGHT_PER_HOST", "2")]).await;
    wait_for_open(&endpoint, 2).await;
    worker.stop().await;

    assert_eq!((leases(&api.pool).await, failures(&api.pool).await), (0, 0));
    assert_eq!(endpoint.journal.open_requests(), 0, "requests that did not get their response");
    let mut delivered = 0;
    for id in &ids {
        let event = api.event(id).await;
        if event["status"] == "delivered" {
            delivered += 1;
            assert_eq!(outcomes(&event), ["delivered"]);
        } else {
            assert_eq!((&event["attempt_count"], &event["attempts"]), (&json!(0), &json!([])));
            assert_ne!(
                event["next_retry_at"],
                json!(null),
                "a released event is due and has no lease"
            );
        }
    }
    assert_eq!(delivered, endpoint.journal.receipts().len());
    assert!(
        (2..30).contains(&delivered),
        "{delivered} of 30 were delivered, so the stop proves nothing"
    );

    let next = App::over(&database, Role::Worker, &[]).await;
    for id in &ids {
        let event = event_with(&api, id, "delivered").await;
        assert_eq!(outcomes(&event), ["delivered"], "{event:#}");
    }
    assert!(arrivals(&endpoint).values().all(|count| *count == 1), "number of requests per event");
    next.stop().await;
    api.stop().await;
}

#[tokio::test]
async fn next_process_continues_with_higher_attempt_numbers() {
    let endpoint =
        Endpoint::start(|seen| Behavior::answer(if seen.arrival < 3 { 500 } else { 200 })).await;
    let database = db::database().await;
    let own = [("BACKOFF_BASE_SECONDS", "0.5"), ("BACKOFF_CAP_SECONDS", "0.5")];
    let api = api(&database).await;
    let ids = accept(&api, &endpoint, 5).await;
    for tried in 1..=2 {
        let worker = App::over(&database, Role::Worker, &own).await;
        until("each event was attempted", || async {
            endpoint.journal.receipts().len() >= tried * 5
        })
        .await;
        worker.stop().await;
    }
    let worker = App::over(&database, Role::Worker, &own).await;
    for id in &ids {
        let event = event_with(&api, id, "delivered").await;
        assert_eq!(outcomes(&event), ["rejected", "rejected", "delivered"]);
    }
    let receipts = endpoint.journal.receipts();
    for id in &ids {
        let mine = receipts.iter().filter(|r| r.webhook_id.as_ref() == Some(id));
        let numbers: Vec<_> = mine.map(|receipt| receipt.attempt.unwrap()).collect();
        assert_eq!(numbers, [1, 2, 3]);
    }
    worker.stop().await;
    api.stop().await;
}

// Requests that hang longer than SHUTDOWN_SECONDS are abandoned, and another worker must detect
// this by presence. Events in the host queue were not sent. They are released and not abandoned.
#[tokio::test]
async fn open_requests_after_a_stop_are_reclaimed_before_expiry() {
    let well = Arc::new(AtomicBool::new(false));
    let is_well = Arc::clone(&well);
    let endpoint = Endpoint::start(move |_| match is_well.load(Ordering::SeqCst) {
        false => Behavior::Hang { hold_ms: 600_000 },
        true => Behavior::answer(200),
    })
    .await;
    let database = db::database().await;
    let api = api(&database).await;
    let ids = accept(&api, &endpoint, 8).await;
    // Long enough for the reply to an open claim and its release. The hanging requests stay open.
    let own = [("SHUTDOWN_SECONDS", "1"), ("MAX_IN_FLIGHT_PER_HOST", "3")];
    let first = App::over(&database, Role::Worker, &[ENDLESS, &own].concat()).await;
    wait_for_open(&endpoint, 3).await;
    first.stop().await;
    assert_eq!(leases(&api.pool).await, 3, "only sent attempts keep their lease");

    well.store(true, Ordering::SeqCst);
    let second = App::over(&database, Role::Worker, ENDLESS).await;
    let mut abandoned = 0;
    for id in &ids {
        let event = event_with(&api, id, "delivered").await;
        abandoned += outcomes(&event).iter().filter(|outcome| **outcome == "abandoned").count();
        assert_eq!(outcomes(&event).last(), Some(&"delivered"));
    }
    assert_eq!((abandoned, failures(&api.pool).await), (3, 0));
    assert_eq!(endpoint.journal.receipts().len(), 8 + 3);
    second.stop().await;
    api.stop().await;
}

// Each worker is replaced by the next while events arrive. The responses are slow, so that every
// stop meets open requests.
#[tokio::test]
async fn rolling_restarts_send_each_event_without_duplicates() {
    let endpoint = Endpoint::start(|_| slow(150)).await;
    let database = db::database().await;
    let api = api(&database).await;
    let mut worker = App::over(&database, Role::Worker, &[]).await;
    let mut ids = Vec::new();
    for restart in 0..10 {
        for ordinal in 0..10 {
            let url = endpoint.url(restart * 10 + ordinal);
            ids.push(api.accept("1", &url).await);
        }
        until("some requests are open", || async { endpoint.journal.open_requests() > 0 }).await;
        let next = App::over(&database, Role::Worker, &[]).await;
        worker.stop().await;
        worker = next;
    }
    for id in &ids {
        let event = event_with(&api, id, "delivered").await;
        assert_eq!(outcomes(&event), ["delivered"], "{event:#}");
    }
    let arrivals = arrivals(&endpoint);
    assert_eq!((arrivals.len(), arrivals.values().sum()), (100, 100));
    worker.stop().await;
    api.stop().await;
}

#[tokio::test]
async fn idle_process_stops_immediately() {
    let database = db::database().await;
    let mut processes = Processes::plain();
    processes.start("idle", &database, &[("SHUTDOWN_SECONDS", "3600")]).await;
    let exit = processes.system.terminate("idle", Duration::from_secs(10)).await.unwrap();
    assert!(exit.is_clean(), "{exit}");
}

// The thread of a lookup cannot be cancelled and waits for a minute. The process must not wait for
// it.
#[tokio::test]
async fn silent_dns_server_does_not_delay_a_stop() {
    let Some(names) = NameServer::start(|_, _| None).await else {
        return;
    };
    let database = db::database().await;
    let api = api(&database).await;
    let mut processes = Processes::new(names.system());
    let own = [("HTTP_TIMEOUT", "0.5"), ("MAX_ATTEMPTS", "1")];
    processes.start("resolving", &database, &own).await;
    let id = api.accept("1", "http://silent.test/").await;
    assert_eq!(outcomes(&event_with(&api, &id, "dead").await), ["timeout"]);
    let grace = Duration::from_secs(5);
    let exit = processes.system.terminate("resolving", grace).await.unwrap();
    assert!(exit.is_clean(), "{exit}");
    api.stop().await;
}
