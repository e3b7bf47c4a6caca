//! What is done to the server itself, each on one of the test's own.

use std::time::Duration;

use dispatcher::Role;
use mock_receiver::Behavior;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{SHORT, SLOW, accept, all_begun, is_unavailable, outcomes};
use crate::support::app::App;
use crate::support::fixture::Endpoint;
use crate::support::own::own_server;

// SIGKILL of one backend resets the whole instance: every session ends and the unlogged table of workers is emptied while
// both workers live. Nobody may be taken for gone, and everything in flight is settled once.
#[tokio::test]
async fn a_reset_of_the_instance_ends_no_lease_of_a_living_worker() {
    let Some(mut own) = own_server().await else {
        return;
    };
    let endpoint = Endpoint::start(|_| Behavior::Answer {
        status: 200,
        after_ms: 2_000,
        retry_after: None,
    })
    .await;
    let database = own.create_database("reset").await.unwrap();
    let app = App::over(&database, Role::Serve, SLOW).await;
    let second = App::over(&database, Role::Worker, SLOW).await;
    let ids = accept(&app, &endpoint, 10).await;
    all_begun(&endpoint, 10).await;

    let backend: i32 = sqlx::query_scalar("select pg_backend_pid()")
        .fetch_one(&app.pool)
        .await
        .unwrap();
    kill(Pid::from_raw(backend), Signal::SIGKILL).unwrap();

    for id in &ids {
        let event = app
            .event_once(id, "delivered", |event| event["status"] == "delivered")
            .await;
        assert_eq!(outcomes(&event), ["delivered"], "{event:#}");
    }
    assert_eq!(endpoint.journal.receipts().len(), 10);
    app.stop().await;
    second.stop().await;
}

// An immediate stop and recovery, under events that were acknowledged: all of them are delivered, none is abandoned.
#[tokio::test]
async fn a_crash_of_postgres_loses_nothing_that_was_acknowledged() {
    let Some(mut own) = own_server().await else {
        return;
    };
    let endpoint = Endpoint::start(|_| Behavior::Answer {
        status: 200,
        after_ms: 300,
        retry_after: None,
    })
    .await;
    let database = own.create_database("crash").await.unwrap();
    let app = App::over(&database, Role::Serve, &[]).await;
    let ids = accept(&app, &endpoint, 30).await;

    own.stop_at_once().await.unwrap();
    own.bring_up().await.unwrap();

    for id in &ids {
        app.event_once(id, "delivered", |event| event["status"] == "delivered")
            .await;
    }
    app.stop().await;
}

/// Answers while the database is away.
async fn answering_200_after(after_ms: u64) -> Endpoint {
    Endpoint::start(move |_| Behavior::Answer {
        status: 200,
        after_ms,
        retry_after: None,
    })
    .await
}

async fn were_sent_and_settled_in_one_attempt(app: &App, endpoint: &Endpoint, ids: &[String]) {
    for id in ids {
        let event = app
            .event_once(id, "delivered", |event| event["status"] == "delivered")
            .await;
        assert_eq!(outcomes(&event), ["delivered"], "{event:#}");
        assert_eq!(event["attempt_count"], 1);
    }
    assert_eq!(endpoint.journal.receipts().len(), ids.len());
}

// The server itself is stopped for twice the lease, at once and without a goodbye; the answers come meanwhile.
#[tokio::test]
async fn results_in_hand_are_settled_when_a_stopped_server_is_back_after_the_lease() {
    let Some(mut own) = own_server().await else {
        return;
    };
    let endpoint = answering_200_after(500).await;
    let database = own.create_database("stopped").await.unwrap();
    let app = App::over(&database, Role::Serve, SHORT).await;
    let second = App::over(&database, Role::Worker, SHORT).await;
    let ids = accept(&app, &endpoint, 5).await;
    all_begun(&endpoint, 5).await;

    own.stop_at_once().await.unwrap();
    is_unavailable(&app).await;
    // Nobody can be asked whether the leases are over: only time passes.
    tokio::time::sleep(2 * Duration::from_millis(1_500)).await;
    own.bring_up().await.unwrap();

    were_sent_and_settled_in_one_attempt(&app, &endpoint, &ids).await;
    app.stop().await;
    second.stop().await;
}
