//! SIGKILL and SIGSTOP of the real process, and the end of the session by which others see that it lives.

use chaos::system::System;
use dispatcher::Role;
use mock_receiver::Behavior;
use serde_json::{Value, json};

use super::{ENDLESS, accept, api, arrivals, failures, leases, open, told};
use crate::support::app::{App, until};
use crate::support::db;
use crate::support::fixture::Endpoint;
use crate::support::process::Processes;
use crate::support::story::outcomes;

/// Hangs the first time, and is well afterwards.
async fn hanging_first() -> Endpoint {
    Endpoint::start(|seen| match seen.arrival {
        1 => Behavior::Hang { hold_ms: 600_000 },
        _ => Behavior::answer(200),
    })
    .await
}

// Leases of ten minutes: only the missing presence can tell that their holder is gone.
#[tokio::test]
async fn what_a_killed_worker_held_is_sent_again_by_another() {
    let endpoint = hanging_first().await;
    let database = db::database().await;
    let api = api(&database).await;
    let mut processes = Processes::plain();
    processes.start("killed", &database, ENDLESS).await;
    let ids = accept(&api, &endpoint, 20).await;
    open(&endpoint, 20).await;
    processes.start("other", &database, ENDLESS).await;
    processes.system.kill("killed").await.unwrap();
    for id in &ids {
        let event = told(&api, id, "delivered").await;
        assert_eq!(outcomes(&event), ["abandoned", "delivered"], "{event:#}");
        assert_eq!(event["attempt_count"], 2);
        let abandoned = &event["attempts"][0];
        for unknown in ["status_code", "response", "duration_ms"] {
            assert_eq!(abandoned[unknown], Value::Null, "{unknown}: nobody knows");
        }
    }
    assert_eq!((failures(&api.pool).await, leases(&api.pool).await), (0, 0));
    let arrivals = arrivals(&endpoint);
    assert!(
        arrivals.values().all(|count| *count == 2),
        "twice is what was in flight"
    );
    api.stop().await;
}

#[tokio::test]
async fn a_worker_that_was_killed_takes_up_its_own_when_it_is_back() {
    let endpoint = hanging_first().await;
    let database = db::database().await;
    let api = api(&database).await;
    let mut processes = Processes::plain();
    processes.start("same", &database, ENDLESS).await;
    let ids = accept(&api, &endpoint, 10).await;
    open(&endpoint, 10).await;
    processes.system.kill("same").await.unwrap();
    processes.start("same", &database, ENDLESS).await;
    for id in &ids {
        assert_eq!(
            outcomes(&told(&api, id, "delivered").await),
            ["abandoned", "delivered"]
        );
    }
    api.stop().await;
}

// MAX_ATTEMPTS is one: had a crash counted as a failure, the event would have died of the first.
#[tokio::test]
async fn an_event_that_kills_its_worker_again_and_again_ends_as_abandoned_and_takes_nobody_along() {
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
        until("the poison is at work", || async {
            let receipts = endpoint.journal.receipts();
            receipts
                .iter()
                .filter(|receipt| receipt.ordinal == Some(0))
                .count()
                == crash
        })
        .await;
        innocent.push(api.accept("1", &endpoint.url(crash as u64)).await);
        told(&api, &innocent[crash - 1], "delivered").await;
        processes.system.kill("crashing").await.unwrap();
    }
    processes.start("crashing", &database, &own).await;
    let event = told(&api, &poison, "dead").await;
    assert_eq!(
        (&event["reason"], outcomes(&event)),
        (&json!("abandoned"), vec!["abandoned"; 3])
    );
    assert_eq!(failures(&api.pool).await, 0);
    for id in &innocent {
        assert_eq!(outcomes(&api.event(id).await), ["delivered"]);
    }
    api.stop().await;
}

// The paused worker's answer, a 500, is there when it wakes. By then the event is another's, and delivered.
#[tokio::test]
async fn a_worker_that_slept_past_its_lease_changes_nothing_when_it_wakes() {
    let endpoint = Endpoint::start(|seen| match seen.arrival {
        1 => Behavior::Answer {
            status: 500,
            after_ms: 300,
            retry_after: None,
        },
        _ => Behavior::answer(200),
    })
    .await;
    let database = db::database().await;
    let api = api(&database).await;
    let mut processes = Processes::plain();
    let own = [("HTTP_TIMEOUT", "1"), ("LEASE_SECONDS", "1.5")];
    let sleeper = processes.start("sleeper", &database, &own).await;
    let ids = accept(&api, &endpoint, 1).await;
    open(&endpoint, 1).await;
    processes.system.pause("sleeper").await.unwrap();
    let other = App::over(&database, Role::Worker, &own).await;
    let event = told(&api, &ids[0], "delivered").await;
    assert_eq!(outcomes(&event), ["abandoned", "delivered"]);

    processes.system.resume("sleeper").await.unwrap();
    until("the sleeper has found its lease lost", || async {
        let metrics = api
            .client
            .get(format!("http://{sleeper}/metrics"))
            .send()
            .await
            .unwrap();
        metrics
            .text()
            .await
            .unwrap()
            .contains("webhook_lost_leases_total 1\n")
    })
    .await;
    assert_eq!(told(&api, &ids[0], "delivered").await, event);
    assert_eq!(endpoint.journal.receipts().len(), 2);
    other.stop().await;
    api.stop().await;
}

// The session alone is ended, by its lock; the process lives on, and so do its leases. Then it claims as before.
#[tokio::test]
async fn a_presence_that_is_cut_off_costs_no_lease_and_comes_back() {
    let endpoint = Endpoint::start(|_| Behavior::Answer {
        status: 200,
        after_ms: 2_500,
        retry_after: None,
    })
    .await;
    let database = db::database().await;
    let api = api(&database).await;
    let first = App::over(&database, Role::Worker, &[("HTTP_TIMEOUT", "30")]).await;
    let ids = accept(&api, &endpoint, 5).await;
    open(&endpoint, 5).await;
    let cut = "select count(pg_terminate_backend(pid)) from pg_locks
        where locktype = 'advisory' and granted
            and database = (select oid from pg_database where datname = current_database())";
    let ended: i64 = sqlx::query_scalar(cut).fetch_one(&api.pool).await.unwrap();
    assert_eq!(ended, 1, "one worker, one presence");
    let second = App::over(&database, Role::Worker, &[("HTTP_TIMEOUT", "30")]).await;
    for id in &ids {
        let event = told(&api, id, "delivered").await;
        assert_eq!(outcomes(&event), ["delivered"], "{event:#}");
    }
    assert_eq!(
        endpoint.journal.receipts().len(),
        5,
        "nothing was sent twice"
    );
    second.stop().await;
    let quick = Endpoint::answering(200).await;
    let id = api.accept("1", &quick.url(99)).await;
    told(&api, &id, "delivered").await;
    first.stop().await;
    api.stop().await;
}
