//! Number of database sessions: a process never has more than its pools and two, and works with
//! fewer.

use chaos::links::to_database;
use chaos::postgres::OwnServer;
use chaos::proxy::{Control, Direction};
use dispatcher::Role;
use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use reqwest::StatusCode;
use sqlx::{PgConnection, PgPool};

use super::outcomes;
use crate::support::app::{App, until};
use crate::support::db;
use crate::support::db::dedicated_server;
use crate::support::fixture::Endpoint;

/// Two sessions for requests, one for the worker, one for presence and one for health.
const SMALL_POOLS: &[(&str, &str)] = &[("ACCEPT_CONNECTIONS", "2"), ("WORK_CONNECTIONS", "1")];
const SMALL_POOLS_SESSIONS: i64 = 5;

const SESSIONS: &str =
    "select count(*) from pg_stat_activity where application_name = 'webhook-dispatcher'";

const TERMINATE_PRESENCE: &str = "
select count(pg_terminate_backend(pid)) from pg_locks
    join pg_database on pg_database.oid = pg_locks.database
where locktype = 'advisory' and objsubid = 1 and granted and datname = current_database()";

async fn count(session: &mut PgConnection, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(session).await.unwrap()
}

async fn run(session: &mut PgConnection, statements: &[&'static str]) {
    for sql in statements {
        sqlx::raw_sql(*sql).execute(&mut *session).await.unwrap();
    }
}

async fn post_status(app: &App, target: &str) -> StatusCode {
    let body = format!(r#"{{"payload":1,"target_url":"{target}"}}"#);
    app.post(body).await.status()
}

// Every commit waits for a standby that does not exist, and `statement_timeout` does not end that
// wait. If a process opened a new session for each statement that it gave up, no program could
// connect after some seconds.
#[tokio::test]
async fn lost_standby_does_not_use_up_the_sessions() {
    let Some(mut own) = dedicated_server().await else {
        return;
    };
    let endpoint = Endpoint::responding_with(200).await;
    let database = own.create_database("standby").await.unwrap();
    let app = App::over(&database, Role::Serve, SMALL_POOLS).await;
    let mut admin = own.session().await.unwrap();
    let lose = "alter system set synchronous_standby_names = 'absent'";
    run(&mut admin, &[lose, "select pg_reload_conf()"]).await;
    until("commits wait", || async {
        post_status(&app, &endpoint.url(1)).await == StatusCode::SERVICE_UNAVAILABLE
    })
    .await;

    for _ in 0..3 {
        let target = endpoint.url(2);
        let posts = (0..4).map(|_| post_status(&app, &target));
        for status in join_all(posts).await {
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        }
        let sessions = count(&mut admin, SESSIONS).await;
        assert!(sessions <= SMALL_POOLS_SESSIONS, "{sessions} sessions");
    }

    let find = "alter system reset synchronous_standby_names";
    run(&mut admin, &[find, "select pg_reload_conf()"]).await;
    until("posts are accepted again", || async {
        post_status(&app, &endpoint.url(3)).await == StatusCode::ACCEPTED
    })
    .await;
    let id = app.accept("1", &endpoint.url(4)).await;
    app.event_with_status(&id, "delivered").await;
    app.stop().await;
}

/// A role for this test that may have at most five sessions. Returns the URL of a database that it
/// owns.
async fn database_of_limited_role(own: &mut OwnServer) -> String {
    let database = own.create_database("limited").await.unwrap();
    let mut admin = own.session().await.unwrap();
    let owner = "do $$ begin
        execute format('alter database %I owner to few', current_database());
    end $$";
    let role = "create role few login password 'few' connection limit 5";
    run(&mut admin, &[role, owner]).await;
    let (_, server) = database.split_once('@').unwrap();
    format!("postgresql://few:few@{server}")
}

async fn accept_concurrently(app: &App, endpoint: &Endpoint) -> Vec<String> {
    let targets = (0..100).map(|number| endpoint.url(number));
    let posts = targets.map(|target| async move { app.accept("1", &target).await });
    stream::iter(posts).buffer_unordered(16).collect().await
}

// The settings ask for 14 sessions and the server permits 5. Posts wait for a session and none
// fails. If the presence session is lost, requests may take its place in the server. Then the
// presence gets the place of one of them, or no event would be claimed any more.
#[tokio::test]
async fn process_works_with_fewer_sessions_than_configured() {
    let Some(mut own) = dedicated_server().await else {
        return;
    };
    let endpoint = Endpoint::responding_with(200).await;
    let limited = database_of_limited_role(&mut own).await;
    let direct = own.postgres().admin_url().to_owned();
    let app = App::unready(&limited, Role::Serve, &[], &direct).await;
    app.until_ready().await;
    let mut admin = own.session().await.unwrap();
    let server = db::pool(&direct).await;
    for _ in 0..2 {
        for id in accept_concurrently(&app, &endpoint).await {
            let event = app.event_with_status(&id, "delivered").await;
            assert_eq!(outcomes(&event), ["delivered"], "{event:#}");
        }
        // A session that the server refused is tried again after a while.
        until("every permitted session is open", || async {
            let sessions = sqlx::query_scalar::<_, i64>(SESSIONS).fetch_one(&server);
            sessions.await.unwrap() == 5
        })
        .await;
        assert_eq!(count(&mut admin, TERMINATE_PRESENCE).await, 1);
    }
    app.stop().await;
}

/// Client port of the session that executed the last insert.
async fn port_of_insert(pool: &PgPool) -> u16 {
    let sql = "select client_port from pg_stat_activity
        where application_name = 'webhook-dispatcher' and query like '%insert into webhook_events%'
            and datname = current_database() and pid <> pg_backend_pid()";
    let port: i32 = sqlx::query_scalar(sql).fetch_one(pool).await.unwrap();
    u16::try_from(port).unwrap()
}

// The reply to an insert is lost, and neither side sees an end of the connection. The place of the
// session is free when the server reports that the session runs no statement.
#[tokio::test]
async fn session_of_a_broken_link_frees_its_place() {
    // The server must see the ports of the proxy, so it cannot run in a container.
    let Some(mut own) = dedicated_server().await else {
        return;
    };
    let database = own.create_database("broken").await.unwrap();
    let (link, url) = to_database(&database).unwrap();
    let app = App::over(&url, Role::Api, &[("ACCEPT_CONNECTIONS", "1")]).await;
    let target = "http://127.0.0.1:9/";
    app.accept("1", target).await;
    let direct = db::pool(&database).await;
    let port = port_of_insert(&direct).await;
    link.set_on(port, Control::Swallow(Direction::Down));
    let lost = post_status(&app, target).await;
    assert_eq!(lost, StatusCode::SERVICE_UNAVAILABLE);
    until("another session accepts a post", || async {
        post_status(&app, target).await == StatusCode::ACCEPTED
    })
    .await;
    app.stop().await;
}

// 8 MB over a link of 4 MB per second take longer than the timeout of a small event.
#[tokio::test]
async fn large_event_is_accepted_over_a_slow_link() {
    let (link, url) = to_database(&db::database().await).unwrap();
    let app = App::over(&url, Role::Api, &[("MAX_BODY_BYTES", "67108864")]).await;
    link.set(Control::Slow { bytes_per_ms: 4_000 });
    let payload = format!("\"{}\"", "x".repeat(8_000_000));
    let id = app.accept(&payload, "http://127.0.0.1:9/").await;
    assert_eq!(app.event(&id).await["status"], "pending");
    app.stop().await;
}
