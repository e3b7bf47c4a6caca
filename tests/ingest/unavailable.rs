//! No Postgres: 503 with `Retry-After` in time, never a 202, and what needs no database goes on.

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

/// The contract says 2 s; the rest is for a machine with other things to do.
const WITHIN: Duration = Duration::from_secs(5);

async fn assert_unavailable(app: &App) {
    for path in ["/readyz", "/events/01890000-0000-7000-8000-000000000000"] {
        let answer = timeout(WITHIN, app.get(path))
            .await
            .expect("an answer in time");
        assert_eq!(answer.status(), 503, "{path}");
        assert!(answer.headers().contains_key("retry-after"), "{path}");
        problem(answer).await;
    }
    for headers in [&[][..], &[("idempotency-key", "k")]] {
        let answer = timeout(WITHIN, app.post_with(headers, GOOD))
            .await
            .expect("an answer in time");
        assert_eq!(answer.status(), 503);
        let after = answer.headers()["retry-after"].to_str().unwrap();
        assert!(
            after.parse::<u32>().is_ok_and(|seconds| seconds > 0),
            "{after}"
        );
        problem(answer).await;
    }
    // Twenty at once are answered as fast as one.
    let many = (0..20).map(|_| app.post(GOOD));
    let answers = timeout(WITHIN, futures_util::future::join_all(many)).await;
    assert!(
        answers
            .expect("in time")
            .iter()
            .all(|answer| answer.status() == 503)
    );
}

/// What needs no database: health of the process, counters, and every refusal.
async fn assert_the_rest_goes_on(app: &App) {
    assert_eq!(app.get("/livez").await.status(), 200);
    let metrics = timeout(WITHIN, app.get("/metrics"))
        .await
        .expect("an answer in time");
    assert_eq!(metrics.status(), 200);
    assert_eq!(app.post("no JSON").await.status(), 400);
    let refused = app
        .post(r#"{"payload":1,"target_url":"http://10.0.0.1/"}"#)
        .await;
    assert_eq!(refused.status(), 422);
    assert_eq!(app.get("/events/none").await.status(), 404);
    assert_eq!(app.get("/none").await.status(), 404);
}

#[tokio::test]
async fn nothing_listens_where_postgres_should_be() {
    let port = chaos::system::free_port();
    let url = format!("postgresql://postgres:secret@127.0.0.1:{port}/none");
    let app = App::unready(&url, Role::Serve, &[], &db::database().await).await;
    assert_unavailable(&app).await;
    assert_the_rest_goes_on(&app).await;
    let told: Value = app.post(GOOD).await.json().await.unwrap();
    assert!(!told.to_string().contains("secret"), "{told}");
    app.stop().await;
}

// Connections are accepted and nothing is ever said, as when Postgres is paused.
#[tokio::test]
async fn what_listens_where_postgres_should_be_is_silent() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "postgresql://postgres@{}/none",
        silent.local_addr().unwrap()
    );
    let app = App::unready(&url, Role::Serve, &[], &db::database().await).await;
    assert_unavailable(&app).await;
    assert_the_rest_goes_on(&app).await;
    app.stop().await;
}

#[tokio::test]
async fn a_database_that_is_not_there_is_waited_for() {
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

/// The same database, where each session takes longer to come about than a request may take.
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

// A connection that every request begins anew and gives up in time for its 503 would never come about.
#[tokio::test]
async fn a_database_that_is_slow_to_connect_to_is_reached_all_the_same() {
    let database = db::database().await;
    let slow = slow_to_connect(&database).await;
    let app = App::unready(&slow, Role::Api, &[], &database).await;
    app.until_ready().await;
    until("a post is accepted", || async {
        app.post(GOOD).await.status() == 202
    })
    .await;
    app.stop().await;
}

#[tokio::test]
async fn a_body_under_way_while_postgres_is_away_is_no_202() {
    let port = chaos::system::free_port();
    let url = format!("postgresql://postgres@127.0.0.1:{port}/none");
    let app = App::unready(&url, Role::Serve, &[], &db::database().await).await;
    let length = GOOD.len();
    let mut connection = Connection::open(app.address).await;
    let head = "POST /events HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    connection
        .drip(format!("{head}content-length: {length}\r\n\r\n{GOOD}"))
        .await;
    let answer = connection.answer().await.unwrap();
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("1"))
    );
    app.stop().await;
}
