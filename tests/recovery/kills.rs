//! SIGKILL and SIGSTOP of a worker process, and the end of its presence session.

use chaos::system::System;
use dispatcher::Role;
use mock_receiver::Behavior;
use serde_json::{Value, json};

use super::{ENDLESS, accept, api, arrivals, event_with, failures, leases, wait_for_open};
use crate::support::app::{App, until};
use crate::support::db;
use crate::support::fixture::Endpoint;
use crate::support::process::Processes;
use crate::support::view::outcomes;

/// Hangs at the first request for each event and responds with 200 later.
async fn hanging_first() -> Endpoint {
    Endpoint::start(|seen| match seen.arrival {
        1 => Behavior::Hang { hold_ms: 600_000 },
        _ => Behavior::answer(200),
    })
    .await
}

// The leases last ten minutes, so only the missing presence can end them within the test.
#[tokio::test]
async fn events_of_a_killed_worker_are_sent_again_by_another() {
    let endpoint = hanging_first().await;
    let database = db::database().await;
    let api = api(&database).await;
    let mut processes = Processes::plain();
    processes.start("killed", &database, ENDLESS).await;
    let ids = accept(&api, &endpoint, 20).await;
    wait_for_open(&endpoint, 20).await;
    processes.start("other", &database, ENDLESS).await;
    processes.system.kill("killed").await.unwrap();
    for id in &ids {
        let event = event_with(&api, id, "delivered").await;
        assert_eq!(outcomes(&event), ["abandoned", "delivered"], "{event:#}");
        assert_eq!(event["attempt_count"], 2);
        let abandoned = &event["attempts"][0];
        for unknown in ["status_code", "response", "duration_ms"] {
            assert_eq!(abandoned[unknown], Value::Null, "{unknown} of an abandoned attempt");
        }
    }
    assert_eq!((failures(&api.pool).await, leases(&api.pool).await), (0, 0));
    let arrivals = arrivals(&endpoint);
    assert!(arrivals.values().all(|count| *count == 2), "only events in flight are sent twice");
    api.stop().await;
}

#[tokio::test]
async fn restarted_worker_reclaims_its_own_leases() {
    let endpoint = hanging_first().await;
    let database = db::database().await;
    let api = api(&database).await;
    let mut processes = Processes::plain();
    processes.start("same", &database, ENDLESS).await;
    let ids = accept(&api, &endpoint, 10).await;
    wait_for_open(&endpoint, 10).await;
    processes.system.kill("same").await.unwrap();
    processes.start("same", &database, ENDLESS).await;
    for id in &ids {
        assert_eq!(outcomes(&event_with(&api, id, "delivered").await), ["abandoned", "delivered"]);
    }
    api.stop().await;
}

// With MAX_ATTEMPTS = 1, the event would be dead after the first kill if a kill counted as a
// failure.
#[tokio::test]
async fn event_that_kills_its_worker_repeatedly_becomes_abandoned() {
    let endpoint = Endpoint::start(|seen| match seen.ordinal {
        Some(0) => Behavior::Hang { hold_ms: 600_000 },
        _ => Behavior::answer(200),
    })
    .await;
    let database = db::database().await;
    let api = api(&database).await;
    let mut processes = Processes::plain();
    let own = [ENDLESS, &[("MAX_ABANDONED", "3"), ("MAX_ATTEMPTS", "1")]].concat();
    let poison = accept(&api, &endpoint, 1).await.remove(0);
    let mut innocent = Vec::new();
    for crash in 1..=3 {
        processes.start("crashing", &database, &own).await;
        until("the poisonous event is at the receiver", || async {
            let receipts = endpoint.journal.receipts();
            receipts.iter().filter(|receipt| receipt.ordinal == Some(0)).count() == crash
        })
        .await;
        innocent.push(api.accept("1", &endpoint.url(crash as u64)).await);
        event_with(&api, &innocent[crash - 1], "delivered").await;
        processes.system.kill("crashing").await.unwrap();
    }
    processes.start("crashing", &database, &own).await;
    let event = event_with(&api, &poison, "dead").await;
    assert_eq!((&event["reason"], outcomes(&event)), (&json!("abandoned"), vec!["abandoned"; 3]));
    assert_eq!(failures(&api.pool).await, 0);
    for id in &innocent {
        assert_eq!(outcomes(&api.event(id).await), ["delivered"]);
    }
    api.stop().await;
}

// The paused worker receives a 500 after its resume. Another worker has delivered the event by
// then.
#[tokio::test]
async fn worker_paused_past_its_lease_changes_nothing() {
    let endpoint = Endpoint::start(|seen| match seen.arrival {
        1 => Behavior::Answer { status: 500, after_ms: 300, retry_after: None },
        _ => Behavior::answer(200),
    })
    .await;
    let database = db::database().await;
    let api = api(&database).await;
    let mut processes = Processes::plain();
    let own = [("HTTP_TIMEOUT", "1"), ("LEASE_SECONDS", "1.5")];
    let paused = processes.start("paused", &database, &own).await;
    let ids = accept(&api, &endpoint, 1).await;
    wait_for_open(&endpoint, 1).await;
    processes.system.pause("paused").await.unwrap();
    let other = App::over(&database, Role::Worker, &own).await;
    let event = event_with(&api, &ids[0], "delivered").await;
    assert_eq!(outcomes(&event), ["abandoned", "delivered"]);

    processes.system.resume("paused").await.unwrap();
    until("the paused worker found that it lost its lease", || async {
        let metrics = api.client.get(format!("http://{paused}/metrics")).send().await.unwrap();
        metrics.text().await.unwrap().contains("webhook_lost_leases_total 1\n")
    })
    .await;
    assert_eq!(event_with(&api, &ids[0], "delivered").await, event);
    assert_eq!(endpoint.journal.receipts().len(), 2);
    other.stop().await;
    api.stop().await;
}

// Only the presence session ends. The process still runs and keeps its leases. Later it claims
// again.
#[tokio::test]
async fn lost_presence_session_keeps_leases_and_is_replaced() {
    let endpoint =
        Endpoint::start(|_| Behavior::Answer { status: 200, after_ms: 2_500, retry_after: None })
            .await;
    let database = db::database().await;
    let api = api(&database).await;
    let first = App::over(&database, Role::Worker, &[("HTTP_TIMEOUT", "30")]).await;
    let ids = accept(&api, &endpoint, 5).await;
    wait_for_open(&endpoint, 5).await;
    let cut = "select count(pg_terminate_backend(pid)) from pg_locks
        where locktype = 'advisory' and granted
            and database = (select oid from pg_database where datname = current_database())";
    let ended: i64 = sqlx::query_scalar(cut).fetch_one(&api.pool).await.unwrap();
    assert_eq!(ended, 1, "one worker has one presence session");
    let second = App::over(&database, Role::Worker, &[("HTTP_TIMEOUT", "30")]).await;
    for id in &ids {
        let event = event_with(&api, id, "delivered").await;
        assert_eq!(outcomes(&event), ["delivered"], "{event:#}");
    }
    assert_eq!(endpoint.journal.receipts().len(), 5, "number of requests");
    second.stop().await;
    let quick = Endpoint::responding_with(200).await;
    let id = api.accept("1", &quick.url(99)).await;
    event_with(&api, &id, "delivered").await;
    first.stop().await;
    api.stop().await;
}
