//! Without Postgres: 503 with `Retry-After` in time, no 202, and everything else still works.

use std::time::Duration;

use dispatcher::Role;
use reqwest::Url;
use serde_json::Value;
use sqlx::postgres::PgConnectOptions;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use super::{GOOD, problem};
use crate::support::app::{App, until};
use crate::support::db;
use crate::support::raw::Connection;

/// The contract permits 2 s. The rest is for a busy machine.
const RESPONSE_TIME_MAX: Duration = Duration::from_secs(5);

async fn assert_unavailable(app: &App) {
    for path in ["/readyz", "/events/01890000-0000-7000-8000-000000000000"] {
        let response = timeout(RESPONSE_TIME_MAX, app.get(path)).await.expect("a response in time");
        assert_eq!(response.status(), 503, "{path}");
        assert!(response.headers().contains_key("retry-after"), "{path}");
        problem(response).await;
    }
    for headers in [&[][..], &[("idempotency-key", "k")]] {
        let response = timeout(RESPONSE_TIME_MAX, app.post_with(headers, GOOD))
            .await
            .expect("a response in time");
        assert_eq!(response.status(), 503);
        let after = response.headers()["retry-after"].to_str().unwrap();
        assert!(after.parse::<u32>().is_ok_and(|seconds| seconds > 0), "{after}");
        problem(response).await;
    }
    // Twenty concurrent requests get their responses as fast as one.
    let many = (0..20).map(|_| app.post(GOOD));
    let responses = timeout(RESPONSE_TIME_MAX, futures_util::future::join_all(many)).await;
    assert!(responses.expect("responses in time").iter().all(|response| response.status() == 503));
}

/// Checks requests that need no database: health of the process, metrics, and every refusal.
async fn assert_other_requests_work(app: &App) {
    assert_eq!(app.get("/livez").await.status(), 200);
    let metrics =
        timeout(RESPONSE_TIME_MAX, app.get("/metrics")).await.expect("a response in time");
    assert_eq!(metrics.status(), 200);
    assert_eq!(app.post("not JSON").await.status(), 400);
    let refused = app.post(r#"{"payload":1,"target_url":"http://10.0.0.1/"}"#).await;
    assert_eq!(refused.status(), 422);
    assert_eq!(app.get("/events/none").await.status(), 404);
    assert_eq!(app.get("/none").await.status(), 404);
}

#[tokio::test]
async fn closed_postgres_port_returns_503() {
    let port = chaos::host::free_port();
    let url = format!("postgresql://postgres:secret@127.0.0.1:{port}/none");
    let app = App::unready(&url, Role::Serve, &[], &db::database().await).await;
    assert_unavailable(&app).await;
    assert_other_requests_work(&app).await;
    let problem: Value = app.post(GOOD).await.json().await.unwrap();
    assert!(!problem.to_string().contains("secret"), "{problem}");
    app.stop().await;
}

// The listener accepts connections and sends nothing, as a paused Postgres does.
#[tokio::test]
async fn silent_postgres_port_returns_503() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgresql://postgres@{}/none", silent.local_addr().unwrap());
    let app = App::unready(&url, Role::Serve, &[], &db::database().await).await;
    assert_unavailable(&app).await;
    assert_other_requests_work(&app).await;
    app.stop().await;
}

#[tokio::test]
async fn missing_database_is_used_after_its_creation() {
    let server = db::cluster().await;
    let existing = db::database().await;
    let (base, _) = existing.rsplit_once('/').unwrap();
    let name = uuid::Uuid::new_v4().simple().to_string();
    let missing = format!("late_{}", &name[..12]);
    let app = App::unready(&format!("{base}/{missing}"), Role::Api, &[], &existing).await;
    assert_unavailable(&app).await;
    server.ensure_database(&missing).await.unwrap();
    app.until_ready().await;
    assert_eq!(app.post(GOOD).await.status(), 202);
    app.stop().await;
}

/// The URL of a proxy to the same database. Each new session takes longer than a request may.
async fn slow_to_connect(database: &str) -> String {
    const LATE: Duration = Duration::from_secs(2);
    let options: PgConnectOptions = database.parse().unwrap();
    let server = (options.get_host().to_owned(), options.get_port());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let server = server.clone();
            tokio::spawn(async move {
                sleep(LATE).await;
                let mut server = TcpStream::connect(server).await.unwrap();
                let _ended = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    let mut url = Url::parse(database).unwrap();
    url.set_host(Some("127.0.0.1")).unwrap();
    url.set_port(Some(port)).unwrap();
    url.to_string()
}

// If each request started a new connection and dropped it at its 503, no connection would ever
// be established.
#[tokio::test]
async fn slow_connect_to_postgres_succeeds_in_the_end() {
    let database = db::database().await;
    let slow = slow_to_connect(&database).await;
    let app = App::unready(&slow, Role::Api, &[], &database).await;
    app.until_ready().await;
    until("a post is accepted", || async { app.post(GOOD).await.status() == 202 }).await;
    app.stop().await;
}

#[tokio::test]
async fn body_that_arrives_without_postgres_gets_no_202() {
    let port = chaos::host::free_port();
    let url = format!("postgresql://postgres@127.0.0.1:{port}/none");
    let app = App::unready(&url, Role::Serve, &[], &db::database().await).await;
    let length = GOOD.len();
    let mut connection = Connection::open(app.address).await;
    let head = "POST /events HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    connection.drip(format!("{head}content-length: {length}\r\n\r\n{GOOD}")).await;
    let response = connection.response().await.unwrap();
    assert_eq!((response.status, response.header("retry-after")), (503, Some("1")));
    app.stop().await;
}
