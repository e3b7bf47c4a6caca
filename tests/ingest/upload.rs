//! Forms of a body: one segment or single bytes, with a length or in chunks, complete or not, and
//! the limit of its size.

use serde_json::json;

use super::{GOOD, api, problem, stored};
use crate::support::app::{App, id_of, until};
use crate::support::fixture::Endpoint;
use crate::support::raw::Connection;

const LIMIT: usize = 1_000;

fn head(fields: &str) -> String {
    format!("POST /events HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{fields}\r\n")
}

fn with_length(body: &str) -> String {
    format!("{}{body}", head(&format!("content-length: {}\r\n", body.len())))
}

/// A chunked request with `piece` bytes per chunk.
fn chunked(body: &str, piece: usize) -> String {
    let chunks = body
        .as_bytes()
        .chunks(piece)
        .map(|chunk| format!("{:x};ext=1\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk)));
    let chunks: String = chunks.collect();
    format!("{}{chunks}0\r\ntrailer: x\r\n\r\n", head("transfer-encoding: chunked\r\n"))
}

/// A valid body of `bytes` bytes.
fn body_of(bytes: usize) -> String {
    let empty = json!({"payload": "", "target_url": super::TARGET}).to_string();
    let filling = "x".repeat(bytes - empty.len());
    json!({"payload": filling, "target_url": super::TARGET}).to_string()
}

#[tokio::test]
async fn body_limit_is_exact_with_a_length_and_in_chunks() {
    let app = api(&[("MAX_BODY_BYTES", &LIMIT.to_string())]).await;
    for (bytes, status) in [(LIMIT - 1, 202), (LIMIT, 202), (LIMIT + 1, 413), (LIMIT * 9, 413)] {
        let body = body_of(bytes);
        assert_eq!(body.len(), bytes);
        for request in [with_length(&body), chunked(&body, 1_000_000), chunked(&body, 7)] {
            let mut connection = Connection::open(app.address).await;
            connection.send(request).await;
            let response = connection.response().await.expect("a response, not a reset");
            assert_eq!(response.status, status, "{bytes} bytes");
            if status == 413 {
                assert_eq!(response.header("content-type"), Some("application/problem+json"));
                assert!(response.json()["detail"].as_str().unwrap().contains("MAX_BODY_BYTES"));
            }
        }
    }
    assert_eq!(stored(&app).await, 6);
    app.stop().await;
}

#[tokio::test]
async fn default_body_limit_is_one_mebibyte() {
    let app = App::start(&[]).await;
    let endpoint = Endpoint::responding_with(200).await;
    let around = json!({"payload": "", "target_url": endpoint.url(1)}).to_string().len();
    let payload = "y".repeat((1 << 20) - around);
    let body =
        |payload: &str| json!({"payload": payload, "target_url": endpoint.url(1)}).to_string();
    let response = app.post(body(&format!("{payload}y"))).await;
    assert_eq!(response.status(), 413);
    problem(response).await;
    let response = app.post(body(&payload)).await;
    assert_eq!(response.status(), 202);
    app.event_with_status(&id_of(response).await, "delivered").await;
    let receipts = endpoint.journal.receipts();
    assert_eq!((receipts.len(), receipts[0].bytes), (1, payload.len() + 2));
    app.stop().await;
}

// The bodies exceed the limit and every socket buffer. Closing on unread bytes would send a reset
// that destroys the response.
#[tokio::test]
async fn client_that_sends_too_much_receives_the_413() {
    let app = api(&[("MAX_BODY_BYTES", &LIMIT.to_string())]).await;
    let body = body_of(8 << 20);
    for request in [with_length(&body), chunked(&body, 1 << 20)] {
        let mut connection = Connection::open(app.address).await;
        connection.send(request).await;
        assert_eq!(connection.response().await.expect("no reset").status, 413);
    }
    app.stop().await;
}

#[tokio::test]
async fn body_sent_in_single_bytes_is_accepted() {
    let app = api(&[]).await;
    for request in [with_length(GOOD), chunked(GOOD, 1), chunked(GOOD, 3)] {
        let mut connection = Connection::open(app.address).await;
        connection.drip(request).await;
        assert_eq!(connection.response().await.unwrap().status, 202);
    }
    assert_eq!(stored(&app).await, 3);
    app.stop().await;
}

// Each received part is a valid event. Only the framing shows that the body is incomplete.
#[tokio::test]
async fn incomplete_body_stores_nothing() {
    let app = api(&[]).await;
    let announced = head(&format!("content-length: {}\r\n", GOOD.len() + 1));
    let unfinished = chunked(GOOD, 1_000);
    let unfinished = unfinished.split("0\r\ntrailer").next().unwrap();
    let bad_size = format!("{unfinished}zz\r\n");
    for request in [format!("{announced}{GOOD}"), unfinished.to_owned(), bad_size] {
        for waits in [true, false] {
            let mut connection = Connection::open(app.address).await;
            connection.send(&request).await;
            if waits {
                connection.end().await;
                let status = connection.response().await.map(|response| response.status);
                assert!(matches!(status, None | Some(400)), "{status:?}");
            }
        }
    }
    assert_eq!(app.post(GOOD).await.status(), 202);
    assert_eq!(stored(&app).await, 1);
    app.stop().await;
}

#[tokio::test]
async fn expect_100_continue_gets_100_or_the_refusal() {
    let app = api(&[("MAX_BODY_BYTES", &LIMIT.to_string())]).await;
    let mut connection = Connection::open(app.address).await;
    let length = GOOD.len();
    connection.send(head(&format!("expect: 100-continue\r\ncontent-length: {length}\r\n"))).await;
    assert_eq!(connection.response().await.unwrap().status, 100);
    connection.send(GOOD).await;
    assert_eq!(connection.response().await.unwrap().status, 202);

    let mut connection = Connection::open(app.address).await;
    connection
        .send(head(&format!("expect: 100-continue\r\ncontent-length: {}\r\n", LIMIT + 1)))
        .await;
    assert_eq!(connection.response().await.unwrap().status, 413);
    app.stop().await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let app = api(&[]).await;
    let mut connection = Connection::open(app.address).await;
    let bad = with_length("{}");
    connection.send([with_length(GOOD), bad, with_length(GOOD)].concat()).await;
    for status in [202, 400, 202] {
        assert_eq!(connection.response().await.unwrap().status, status);
    }
    app.stop().await;
}

// There is one database connection. A body that does not arrive must not occupy it, nor delay other
// posts.
#[tokio::test]
async fn slow_and_idle_clients_do_not_delay_others() {
    let app = api(&[("ACCEPT_CONNECTIONS", "1")]).await;
    let request = with_length(GOOD);
    let mut slow = Vec::new();
    for sent in 0..200 {
        let mut connection = Connection::open(app.address).await;
        connection.send(&request[..sent % request.len()]).await;
        slow.push((connection, sent % request.len()));
    }
    assert_eq!(app.post(GOOD).await.status(), 202);
    for (mut connection, sent) in slow.into_iter().rev().take(20) {
        connection.send(&request[sent..]).await;
        assert_eq!(connection.response().await.unwrap().status, 202);
    }
    assert_eq!(stored(&app).await, 21);
    app.stop().await;
}

#[tokio::test]
async fn malformed_http_is_refused_and_others_are_served() {
    let app = api(&[]).await;
    let flood = format!("GET /livez HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(20_000));
    let requests = [
        "\0\0\0\0\r\n\r\n".to_owned(),
        "\x16\x03\x01\x02\0\x01\0".to_owned(),
        "POST /events\r\n\r\n".to_owned(),
        "POST /events HTTP/9.9\r\n\r\n".to_owned(),
        head("content-length: -1\r\n"),
        head("content-length: 1\r\ncontent-length: 2\r\n"),
        head("content-length: 99999999999999999999999\r\n"),
        head("transfer-encoding: gzip\r\n"),
        flood,
    ];
    for request in requests {
        let mut connection = Connection::open(app.address).await;
        connection.send(&request).await;
        connection.end().await;
        if let Some(response) = connection.response().await {
            assert!((400..500).contains(&response.status), "{request:.40}: {}", response.head);
        }
    }
    assert_eq!(app.post(GOOD).await.status(), 202);
    assert_eq!(stored(&app).await, 1);
    app.stop().await;
}

// A lock makes the post wait in Postgres, and the client disconnects before the post ends. The
// statement must end in its session, and the next post must use the same session.
#[tokio::test]
async fn client_that_disconnects_uses_up_no_database_session() {
    disconnect("/events", GOOD).await;
    disconnect("/events/batch", &format!(r#"{{"events":[{GOOD}]}}"#)).await;
}

async fn disconnect(path: &str, body: &str) {
    let app = api(&[("ACCEPT_CONNECTIONS", "1")]).await;
    assert_eq!(app.post(GOOD).await.status(), 202);
    let before = inserting_sessions(&app).await;
    let mut lock = app.pool.begin().await.unwrap();
    let table = "lock table webhook_events in share mode";
    sqlx::query(table).execute(&mut *lock).await.unwrap();
    let mut connection = Connection::open(app.address).await;
    let request = with_length(body).replacen("/events", path, 1);
    connection.send(request).await;
    let waiting = "select count(*) from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'";
    until("the post waits for the lock", || async {
        let waiting = sqlx::query_scalar::<_, i64>(waiting).fetch_one(&app.pool);
        waiting.await.unwrap() == 1
    })
    .await;
    connection.end().await;
    assert!(connection.response().await.is_none(), "the dispatcher detected the disconnect");
    lock.rollback().await.unwrap();
    until("the post has ended", || async { stored(&app).await == 2 }).await;
    assert_eq!(app.post(GOOD).await.status(), 202);
    assert_eq!(inserting_sessions(&app).await, before);
    app.stop().await;
}

async fn inserting_sessions(app: &App) -> Vec<i32> {
    let pids = "select pid from pg_stat_activity
        where datname = current_database() and query ~ 'insert into webhook_events' and pid <> pg_backend_pid()";
    sqlx::query_scalar(pids).fetch_all(&app.pool).await.unwrap()
}
