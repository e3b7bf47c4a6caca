//! What is done to the server itself, each on one of the test's own.

use chrono::{DateTime, Utc};
use dispatcher::Role;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{SHORT, SLOW, accept, all_begun, is_unavailable, outcomes};
use crate::support::app::{App, until};
use crate::support::db;
use crate::support::fixture::Endpoint;
use crate::support::own::own_server;

// SIGKILL of one backend resets the whole instance: every session ends and the unlogged table of workers is emptied while
// both workers live. Nobody may be taken for gone, and everything in flight is settled once.
#[tokio::test]
async fn a_reset_of_the_instance_ends_no_lease_of_a_living_worker() {
    let Some(mut own) = own_server().await else {
        return;
    };
    let endpoint = Endpoint::answering_after(200, 2_000).await;
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
    let endpoint = Endpoint::answering_after(200, 300).await;
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

async fn twice_the_lease_is_over_at(database: &str) -> DateTime<Utc> {
    let long_over = "select max(lease_until + (lease_until - claimed_at)) from webhook_events";
    let beside = db::pool(database).await;
    let at: Option<DateTime<Utc>> = sqlx::query_scalar(long_over)
        .fetch_one(&beside)
        .await
        .unwrap();
    at.expect("the events are leased")
}

// The server itself is stopped for twice the lease, at once and without a goodbye; the answers come meanwhile.
#[tokio::test]
async fn results_in_hand_are_settled_when_a_stopped_server_is_back_after_the_lease() {
    let Some(mut own) = own_server().await else {
        return;
    };
    let endpoint = Endpoint::answering_after(200, 500).await;
    let database = own.create_database("stopped").await.unwrap();
    let app = App::over(&database, Role::Serve, SHORT).await;
    let second = App::over(&database, Role::Worker, SHORT).await;
    let ids = accept(&app, &endpoint, 5).await;
    all_begun(&endpoint, 5).await;

    let long_over = twice_the_lease_is_over_at(&database).await;
    own.stop_at_once().await.unwrap();
    is_unavailable(&app).await;
    // The server has the clock of this machine.
    until("twice the lease has passed", async || {
        Utc::now() > long_over
    })
    .await;
    own.bring_up().await.unwrap();

    were_sent_and_settled_in_one_attempt(&app, &endpoint, &ids).await;
    app.stop().await;
    second.stop().await;
}

// Of the harness's own ways: what a probe calls away may be a starved machine, and whoever has something to do there waits on.
#[tokio::test]
async fn a_session_of_the_harness_waits_for_longer_than_a_probe() {
    let Some(own) = own_server().await else {
        return;
    };
    let postmaster = own.postgres().pid().unwrap().try_into().unwrap();
    kill(Pid::from_raw(postmaster), Signal::SIGSTOP).unwrap();
    let healed = async {
        let refusal = own.refusal().await;
        kill(Pid::from_raw(postmaster), Signal::SIGCONT).unwrap();
        refusal
    };
    let (session, refusal) = tokio::join!(own.session(), healed);
    assert!(refusal.unwrap().contains("no answer within"));
    session.unwrap();
}
