//! Faults of the Postgres server itself. Each test starts a dedicated server.

use chrono::{DateTime, Utc};
use dispatcher::Role;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{SHORT, SLOW, accept, all_requests_arrived, assert_unavailable, outcomes};
use crate::support::app::{App, until};
use crate::support::db;
use crate::support::db::dedicated_server;
use crate::support::fixture::Endpoint;

// SIGKILL of one backend resets the instance: every session ends, and the unlogged table `workers`
// becomes empty while both workers run. No worker may be considered absent.
#[tokio::test]
async fn reset_of_the_instance_keeps_leases_of_running_workers() {
    let Some(mut own) = dedicated_server().await else {
        return;
    };
    let endpoint = Endpoint::responding_after(200, 2_000).await;
    let database = own.create_database("reset").await.unwrap();
    let app = App::over(&database, Role::Serve, SLOW).await;
    let second = App::over(&database, Role::Worker, SLOW).await;
    let ids = accept(&app, &endpoint, 10).await;
    all_requests_arrived(&endpoint, 10).await;

    let backend: i32 =
        sqlx::query_scalar("select pg_backend_pid()").fetch_one(&app.pool).await.unwrap();
    kill(Pid::from_raw(backend), Signal::SIGKILL).unwrap();

    for id in &ids {
        let event = app.event_where(id, "delivered", |event| event["status"] == "delivered").await;
        assert_eq!(outcomes(&event), ["delivered"], "{event:#}");
    }
    assert_eq!(endpoint.journal.receipts().len(), 10);
    app.stop().await;
    second.stop().await;
}

// An immediate stop and recovery after events were accepted.
#[tokio::test]
async fn crash_of_postgres_loses_no_accepted_event() {
    let Some(mut own) = dedicated_server().await else {
        return;
    };
    let endpoint = Endpoint::responding_after(200, 300).await;
    let database = own.create_database("crash").await.unwrap();
    let app = App::over(&database, Role::Serve, &[]).await;
    let ids = accept(&app, &endpoint, 30).await;

    own.stop_at_once().await.unwrap();
    own.bring_up().await.unwrap();

    for id in &ids {
        app.event_where(id, "delivered", |event| event["status"] == "delivered").await;
    }
    app.stop().await;
}

async fn assert_delivered_by_one_attempt_each(app: &App, endpoint: &Endpoint, ids: &[String]) {
    for id in ids {
        let event = app.event_where(id, "delivered", |event| event["status"] == "delivered").await;
        assert_eq!(outcomes(&event), ["delivered"], "{event:#}");
        assert_eq!(event["attempt_count"], 1);
    }
    assert_eq!(endpoint.journal.receipts().len(), ids.len());
}

async fn end_of_twice_the_lease(database: &str) -> DateTime<Utc> {
    let sql = "select max(lease_until + (lease_until - claimed_at)) from webhook_events";
    let direct = db::pool(database).await;
    let at: Option<DateTime<Utc>> = sqlx::query_scalar(sql).fetch_one(&direct).await.unwrap();
    at.expect("the events are leased")
}

// The server stops immediately, for twice the lease. The responses arrive meanwhile.
#[tokio::test]
async fn results_are_settled_after_a_server_stop_longer_than_the_lease() {
    let Some(mut own) = dedicated_server().await else {
        return;
    };
    let endpoint = Endpoint::responding_after(200, 500).await;
    let database = own.create_database("stopped").await.unwrap();
    let app = App::over(&database, Role::Serve, SHORT).await;
    let second = App::over(&database, Role::Worker, SHORT).await;
    let ids = accept(&app, &endpoint, 5).await;
    all_requests_arrived(&endpoint, 5).await;

    let end = end_of_twice_the_lease(&database).await;
    own.stop_at_once().await.unwrap();
    assert_unavailable(&app).await;
    // Server and test run on the same machine, so they share a clock.
    until("twice the lease has passed", async || Utc::now() > end).await;
    own.bring_up().await.unwrap();

    assert_delivered_by_one_attempt_each(&app, &endpoint, &ids).await;
    app.stop().await;
    second.stop().await;
}

// The server is paused when the worker sends a claim, and continues after the worker has given it
// up. The claim then commits, and only the row shows it. The lease is so long that it cannot expire
// during the test.
#[tokio::test]
async fn claim_that_commits_after_a_pause_is_released_without_an_attempt() {
    let Some(mut own) = dedicated_server().await else {
        return;
    };
    let endpoint = Endpoint::responding_with(200).await;
    let database = own.create_database("paused").await.unwrap();
    let app = App::over(&database, Role::Serve, &[("LEASE_SECONDS", "600")]).await;
    let id = app.accept("1", &endpoint.url(1)).await;
    app.event_with_status(&id, "delivered").await;
    let again = "update webhook_events set status = 'pending', finished_at = null,
                     next_retry_at = now() + interval '1 s'";
    sqlx::query(again).execute(&app.pool).await.unwrap();

    let sessions = "select pid from pg_stat_activity where application_name = 'webhook-dispatcher'";
    let mut stopped: Vec<i32> = sqlx::query_scalar(sessions).fetch_all(&app.pool).await.unwrap();
    stopped.push(own.postgres().pid().unwrap().try_into().unwrap());
    let signal = |signal| {
        for pid in &stopped {
            kill(Pid::from_raw(*pid), signal).unwrap();
        }
    };
    signal(Signal::SIGSTOP);
    let end = Utc::now() + chrono::Duration::seconds(8);
    until("the pause is over", async || Utc::now() > end).await;
    signal(Signal::SIGCONT);

    let event = app.event_with_status(&id, "delivered").await;
    assert_eq!(outcomes(&event), ["delivered", "delivered"], "{event:#}");
    assert_eq!(event["attempt_count"], 2);
    app.stop().await;
}

// A probe that gets no response in time may only show a busy machine. A session of the harness
// waits longer than a probe.
#[tokio::test]
async fn session_of_the_harness_waits_longer_than_a_probe() {
    let Some(own) = dedicated_server().await else {
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
    assert!(refusal.unwrap().contains("no response within"));
    session.unwrap();
}
