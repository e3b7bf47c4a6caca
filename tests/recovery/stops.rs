//! A stop in order: what was sent is settled, what was not is handed back, and the next process goes on where it ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chaos::system::System;
use dispatcher::Role;
use mock_receiver::Behavior;
use serde_json::json;

use super::{ENDLESS, accept, api, arrivals, failures, leases, open, told};
use crate::support::app::{App, until};
use crate::support::db;
use crate::support::fixture::Endpoint;
use crate::support::names::NameServer;
use crate::support::process::Processes;
use crate::support::story::outcomes;

fn slow(after_ms: u64) -> Behavior {
    Behavior::Answer {
        status: 200,
        after_ms,
        retry_after: None,
    }
}

// Two at a time reach the receiver, the rest waits in line or is deferred: all three kinds are there when the stop comes.
#[tokio::test]
async fn a_stop_settles_what_was_sent_and_hands_back_what_was_not() {
    let endpoint = Endpoint::start(|_| slow(500)).await;
    let database = db::database().await;
    let api = api(&database).await;
    let ids = accept(&api, &endpoint, 30).await;
    let worker = App::over(&database, Role::Worker, &[("MAX_IN_FLIGHT_PER_HOST", "2")]).await;
    open(&endpoint, 2).await;
    worker.stop().await;

    assert_eq!((leases(&api.pool).await, failures(&api.pool).await), (0, 0));
    assert_eq!(
        endpoint.journal.open_requests(),
        0,
        "every request saw its answer"
    );
    let mut delivered = 0;
    for id in &ids {
        let event = api.event(id).await;
        if event["status"] == "delivered" {
            delivered += 1;
            assert_eq!(outcomes(&event), ["delivered"]);
        } else {
            assert_eq!(
                (&event["attempt_count"], &event["attempts"]),
                (&json!(0), &json!([]))
            );
            assert_ne!(
                event["next_retry_at"],
                json!(null),
                "it is due, and nobody's"
            );
        }
    }
    assert_eq!(delivered, endpoint.journal.receipts().len());
    assert!(
        (2..30).contains(&delivered),
        "{delivered} of 30: the stop was no test"
    );

    let next = App::over(&database, Role::Worker, &[]).await;
    for id in &ids {
        let event = told(&api, id, "delivered").await;
        assert_eq!(outcomes(&event), ["delivered"], "{event:#}");
    }
    assert!(
        arrivals(&endpoint).values().all(|count| *count == 1),
        "nothing was sent twice"
    );
    next.stop().await;
    api.stop().await;
}

#[tokio::test]
async fn the_next_process_goes_on_with_the_same_ids_and_higher_numbers() {
    let endpoint =
        Endpoint::start(|seen| Behavior::answer(if seen.arrival < 3 { 500 } else { 200 })).await;
    let database = db::database().await;
    let own = [
        ("BACKOFF_BASE_SECONDS", "0.5"),
        ("BACKOFF_CAP_SECONDS", "0.5"),
    ];
    let api = api(&database).await;
    let ids = accept(&api, &endpoint, 5).await;
    for tried in 1..=2 {
        let worker = App::over(&database, Role::Worker, &own).await;
        until("each was tried", || async {
            endpoint.journal.receipts().len() >= tried * 5
        })
        .await;
        worker.stop().await;
    }
    let worker = App::over(&database, Role::Worker, &own).await;
    for id in &ids {
        let event = told(&api, id, "delivered").await;
        assert_eq!(outcomes(&event), ["rejected", "rejected", "delivered"]);
    }
    let receipts = endpoint.journal.receipts();
    for id in &ids {
        let mine = receipts
            .iter()
            .filter(|r| r.webhook_id.as_ref() == Some(id));
        let numbers: Vec<_> = mine.map(|receipt| receipt.attempt.unwrap()).collect();
        assert_eq!(numbers, [1, 2, 3]);
    }
    worker.stop().await;
    api.stop().await;
}

// What still hangs when SHUTDOWN_SECONDS are over is left behind, and others must learn at once that its holder is gone. What
// waited in line was never sent: it is handed back, and nothing of it is abandoned.
#[tokio::test]
async fn what_a_stop_leaves_behind_is_taken_up_long_before_its_lease_is_over() {
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
    // Long enough for a claim that is under way to come back and be handed back, too; what hangs, hangs on.
    let own = [("SHUTDOWN_SECONDS", "1"), ("MAX_IN_FLIGHT_PER_HOST", "3")];
    let first = App::over(&database, Role::Worker, &[ENDLESS, &own].concat()).await;
    open(&endpoint, 3).await;
    first.stop().await;
    assert_eq!(leases(&api.pool).await, 3, "what was sent and nothing else");

    well.store(true, Ordering::SeqCst);
    let second = App::over(&database, Role::Worker, ENDLESS).await;
    let mut abandoned = 0;
    for id in &ids {
        let event = told(&api, id, "delivered").await;
        abandoned += outcomes(&event)
            .iter()
            .filter(|outcome| **outcome == "abandoned")
            .count();
        assert_eq!(outcomes(&event).last(), Some(&"delivered"));
    }
    assert_eq!((abandoned, failures(&api.pool).await), (3, 0));
    assert_eq!(endpoint.journal.receipts().len(), 8 + 3);
    second.stop().await;
    api.stop().await;
}

// Each worker is replaced by the next while events come and go; answers are so slow that every stop finds some under way.
#[tokio::test]
async fn rolling_restarts_lose_nothing_and_send_nothing_twice() {
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
        until("some are under way", || async {
            endpoint.journal.open_requests() > 0
        })
        .await;
        let next = App::over(&database, Role::Worker, &[]).await;
        worker.stop().await;
        worker = next;
    }
    for id in &ids {
        let event = told(&api, id, "delivered").await;
        assert_eq!(outcomes(&event), ["delivered"], "{event:#}");
    }
    let arrivals = arrivals(&endpoint);
    assert_eq!((arrivals.len(), arrivals.values().sum()), (100, 100));
    worker.stop().await;
    api.stop().await;
}

#[tokio::test]
async fn a_stop_of_an_idle_process_is_clean_and_asks_for_no_patience() {
    let database = db::database().await;
    let mut processes = Processes::plain();
    processes
        .start("idle", &database, &[("SHUTDOWN_SECONDS", "3600")])
        .await;
    let exit = processes
        .system
        .terminate("idle", Duration::from_secs(10))
        .await
        .unwrap();
    assert!(exit.is_clean(), "{exit}");
}

// The resolver's thread cannot be cancelled and waits for a minute; the process must not wait for it.
#[tokio::test]
async fn a_silent_name_server_does_not_hold_up_a_stop() {
    let Some(names) = NameServer::start(|_, _| None).await else {
        return;
    };
    let database = db::database().await;
    let api = api(&database).await;
    let mut processes = Processes::new(names.system());
    let own = [("HTTP_TIMEOUT", "0.5"), ("MAX_ATTEMPTS", "1")];
    processes.start("resolving", &database, &own).await;
    let id = api.accept("1", "http://silent.test/").await;
    assert_eq!(outcomes(&told(&api, &id, "dead").await), ["timeout"]);
    let grace = Duration::from_secs(5);
    let exit = processes
        .system
        .terminate("resolving", grace)
        .await
        .unwrap();
    assert!(exit.is_clean(), "{exit}");
    api.stop().await;
}
