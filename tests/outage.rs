//! The database goes away: no event is lost, no attempt is burnt, nobody has to step in, and the API never says 202 in vain.

mod exhausted;
mod newcomer;
mod replies;
mod server;

use chaos::links::to_database;
use chaos::proxy::{Control, Direction};
use dispatcher::Role;
use mock_receiver::Behavior;
use reqwest::StatusCode;
use serde_json::Value;
use sqlx::PgPool;

use crate::support::app::{App, id_of, until};
use crate::support::db;
use crate::support::fixture::Endpoint;

/// A lease so short that an outage of a few seconds outlasts it.
const SHORT: &[(&str, &str)] = &[("HTTP_TIMEOUT", "1"), ("LEASE_SECONDS", "1.5")];

/// A receiver may take its time.
const SLOW: &[(&str, &str)] = &[("HTTP_TIMEOUT", "10")];

fn outcomes(event: &Value) -> Vec<&str> {
    let attempts = event["attempts"].as_array().unwrap();
    attempts
        .iter()
        .map(|attempt| attempt["outcome"].as_str().unwrap())
        .collect()
}

/// Accepts so many events, each for a path of its own; one after the other, since a burst on a server that has just
/// started may have to wait for connections for longer than a 202 may take.
async fn accept(app: &App, endpoint: &Endpoint, count: u64) -> Vec<String> {
    let mut ids = Vec::new();
    for number in 0..count {
        ids.push(app.accept("{}", &endpoint.url(number)).await);
    }
    ids
}

/// Waits until so many requests have come in, and some of them are still open.
async fn all_begun(endpoint: &Endpoint, count: usize) {
    until("all are at the receiver", || async {
        endpoint.journal.receipts().len() == count
    })
    .await;
    assert!(
        endpoint.journal.open_requests() > 0,
        "the receiver answered before the fault"
    );
}

async fn is_unavailable(app: &App) {
    let answer = app
        .post(r#"{"payload":1,"target_url":"http://127.0.0.1:9/"}"#)
        .await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.headers().contains_key("retry-after"));
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    assert_eq!(
        app.get("/readyz").await.status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(app.get("/livez").await.status(), StatusCode::OK);
}

/// Waits for the server's own word, beside the link, that every lease ended as long ago as it lasted.
async fn twice_the_lease_has_passed(database: &str) {
    let beside = db::pool(database).await;
    let long_over =
        "select bool_and(now() - lease_until > lease_until - claimed_at) from webhook_events";
    until("twice the lease has passed", || async {
        let over: Option<bool> = sqlx::query_scalar(long_over)
            .fetch_one(&beside)
            .await
            .unwrap();
        over.expect("nothing is settled while the link is cut")
    })
    .await;
}

// A request is at the receiver when the link is cut; its 200 comes while the database is away, for twice the lease. The
// worker must settle what it holds before anybody, itself and a second worker included, ends the lease by its time.
#[tokio::test]
async fn results_in_hand_are_settled_after_an_outage_longer_than_the_lease() {
    let endpoint = Endpoint::answering_after(200, 500).await;
    let database = db::database().await;
    let (link, url) = to_database(&database).unwrap();
    let app = App::over(&url, Role::Serve, SHORT).await;
    let second = App::over(&url, Role::Worker, SHORT).await;
    let ids = accept(&app, &endpoint, 5).await;
    all_begun(&endpoint, 5).await;

    link.set(Control::Refuse);
    is_unavailable(&app).await;
    twice_the_lease_has_passed(&database).await;
    link.set(Control::Pass);

    for id in &ids {
        let event = app
            .event_once(id, "delivered", |event| event["status"] == "delivered")
            .await;
        assert_eq!(outcomes(&event), ["delivered"], "{event:#}");
        assert_eq!(event["attempt_count"], 1);
    }
    assert_eq!(
        endpoint.journal.receipts().len(),
        5,
        "nothing was sent twice"
    );
    app.stop().await;
    second.stop().await;
}

// Established connections stay open and nothing comes through them, as when Postgres is paused.
#[tokio::test]
async fn a_stalled_database_is_answered_503_and_delivered_from_afterwards() {
    let endpoint = Endpoint::answering(200).await;
    let (link, url) = to_database(&db::database().await).unwrap();
    let app = App::over(&url, Role::Serve, &[]).await;
    link.set(Control::Stall);
    is_unavailable(&app).await;
    link.set(Control::Pass);
    let id = loop {
        let body = format!(r#"{{"payload":1,"target_url":"{}"}}"#, endpoint.url(1));
        let answer = app.post(body).await;
        match answer.status() {
            StatusCode::ACCEPTED => break id_of(answer).await,
            status => assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE),
        }
    };
    let event = app.event_when(&id, "delivered").await;
    assert_eq!(outcomes(&event), ["delivered"]);
    app.stop().await;
}

#[tokio::test]
async fn without_a_database_the_api_answers_503_and_starts_when_it_is_there() {
    let database = db::database().await;
    let (link, url) = to_database(&database).unwrap();
    link.set(Control::Refuse);
    let app = App::unready(&url, Role::Serve, &[], &database).await;
    is_unavailable(&app).await;
    link.set(Control::Pass);
    app.until_ready().await;
    let endpoint = Endpoint::answering(200).await;
    let id = app.accept("{}", &endpoint.url(1)).await;
    app.event_when(&id, "delivered").await;
    app.stop().await;
}

#[tokio::test]
async fn a_session_that_was_terminated_is_taken_up_again_and_reclaims_nothing() {
    let endpoint = Endpoint::start(|_| Behavior::Answer {
        status: 200,
        after_ms: 2_000,
        retry_after: None,
    })
    .await;
    let database = db::database().await;
    let app = App::over(&database, Role::Serve, SLOW).await;
    let second = App::over(&database, Role::Worker, SLOW).await;
    let ids = accept(&app, &endpoint, 5).await;
    all_begun(&endpoint, 5).await;
    let cut = "select count(pg_terminate_backend(pid)) from pg_stat_activity
               where datname = current_database() and application_name = 'webhook-dispatcher'";
    let ended: i64 = sqlx::query_scalar(cut).fetch_one(&app.pool).await.unwrap();
    assert!(ended > 0);
    for id in &ids {
        let event = app
            .event_once(id, "delivered", |event| event["status"] == "delivered")
            .await;
        assert_eq!(outcomes(&event), ["delivered"], "{event:#}");
    }
    app.stop().await;
    second.stop().await;
}

/// The session that holds a lock by which others see that a worker lives, and the port that it comes from.
async fn presence_session(pool: &PgPool) -> Option<(i32, i32)> {
    let session = "select l.pid, a.client_port from pg_locks l join pg_stat_activity a using (pid)
                   join workers w on l.objid = (w.holder & 4294967295)::oid
                   where l.locktype = 'advisory' and l.objsubid = 1 and l.granted
                       and a.datname = current_database()";
    sqlx::query_as(session).fetch_optional(pool).await.unwrap()
}

// The server has ended the session and the client never hears of it, as behind a gateway that forgets connections. To
// others the worker is gone: it must find out by itself and take its lock again, or all that it claims is taken from it.
#[tokio::test]
async fn a_worker_whose_presence_is_half_open_finds_out_and_takes_it_again() {
    let endpoint = Endpoint::answering(200).await;
    let database = db::database().await;
    let (link, url) = to_database(&database).unwrap();
    let app = App::over(&url, Role::Serve, SLOW).await;
    let direct = db::pool(&database).await;
    until("its presence is held", || async {
        presence_session(&direct).await.is_some()
    })
    .await;
    let (pid, port) = presence_session(&direct).await.unwrap();
    link.set_on(
        u16::try_from(port).unwrap(),
        Control::Swallow(Direction::Down),
    );
    let ended: bool = sqlx::query_scalar("select pg_terminate_backend($1)")
        .bind(pid)
        .fetch_one(&direct)
        .await
        .unwrap();
    assert!(ended);
    until("another session holds the lock", || async {
        presence_session(&direct)
            .await
            .is_some_and(|(now, _)| now != pid)
    })
    .await;
    let second = App::over(&database, Role::Worker, SLOW).await;
    for id in accept(&app, &endpoint, 5).await {
        let event = app.event_when(&id, "delivered").await;
        assert_eq!(outcomes(&event), ["delivered"], "{event:#}");
    }
    app.stop().await;
    second.stop().await;
}

// A row that is missing, say because another worker forgot this one while it was cut off, would keep its death unseen.
#[tokio::test]
async fn a_worker_whose_row_is_missing_registers_again() {
    let app = App::start(SLOW).await;
    let rows = || async {
        let count = "select count(*) from workers";
        sqlx::query_scalar::<_, i64>(count)
            .fetch_one(&app.pool)
            .await
            .unwrap()
    };
    until("it is registered", || async { rows().await == 1 }).await;
    sqlx::query("delete from workers")
        .execute(&app.pool)
        .await
        .unwrap();
    until("it is registered again", || async { rows().await == 1 }).await;
    app.stop().await;
}

// 40 events of a megabyte over six megabytes a second: all of them in one claim would never be through in time, and the
// next claim would be as large. What is bounded comes through in a third of that time; should a busy machine be too slow for
// one, its lease is short.
#[tokio::test]
async fn large_events_come_through_a_slow_link() {
    let settings = &[("HTTP_TIMEOUT", "4"), ("LEASE_SECONDS", "6")];
    let endpoint = Endpoint::answering(200).await;
    let database = db::database().await;
    let api = App::over(&database, Role::Api, settings).await;
    let insert = "
        insert into webhook_events (id, target_url, target_given, payload, status, round,
            attempt_count, failure_count, abandon_count, next_retry_at, created_at)
        select gen_random_uuid(), $1, true, convert_to('\"' || repeat('x', 1000000) || '\"', 'UTF8'),
            'pending', 0, 0, 0, 0, now(), now() from generate_series(1, 40)";
    sqlx::query(insert)
        .bind(endpoint.url(1))
        .execute(&api.pool)
        .await
        .unwrap();
    let (link, url) = to_database(&database).unwrap();
    link.set(Control::Slow {
        bytes_per_ms: 6_000,
    });
    let worker = App::over(&url, Role::Worker, settings).await;
    until("all are delivered", || async {
        let left = "select count(*) from webhook_events where status <> 'delivered'";
        sqlx::query_scalar::<_, i64>(left)
            .fetch_one(&api.pool)
            .await
            .unwrap()
            == 0
    })
    .await;
    worker.stop().await;
    api.stop().await;
}
