//! Clients without a key, or with slow heads and bodies: they hold no place against authorized
//! clients, and health and metrics are served all the time.

use tokio::time::timeout;

use super::{GOOD, api, stored};
use crate::support::app::{App, WAIT_MAX, until};
use crate::support::raw::Connection;

const KEYED: (&str, &str) = ("API_KEYS", "k");
const ONE_REQUEST: (&str, &str) = ("MAX_API_CONNECTIONS", "1");

/// Connections that are open before the longest idle one is closed: the requests, and 16.
const BEYOND: usize = 1 + 16;

fn head(fields: &str) -> String {
    format!("POST /events HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{fields}\r\n")
}

async fn sent(app: &App, bytes: &str) -> Connection {
    let mut connection = Connection::open(app.address).await;
    connection.send(bytes).await;
    connection
}

async fn assert_health(app: &App) {
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(app.get(path).await.status(), 200, "{path}");
    }
}

/// The bytes of a client that never completes its request.
fn unfinished() -> Vec<String> {
    let body = head("content-length: 1000000\r\n") + "{";
    let wrong_key = head("authorization: Bearer x\r\ncontent-length: 1000000\r\n") + "{";
    let chunked = head("transfer-encoding: chunked\r\n") + "1\r\n{\r\n";
    let continued = head("expect: 100-continue\r\ncontent-length: 1000000\r\n");
    let half_head = "POST /events HTTP/1.1\r\nhost: x\r\n".to_owned();
    let http2 = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned();
    let tls = "\x16\x03\x01\x02\0\x01\0\x01".to_owned();
    let nothing = String::new();
    vec![body, wrong_key, chunked, continued, half_head, http2, tls, nothing]
}

// There is one place. The clients without a key neither take it nor use up all connections. They do
// not close the kept connection of the authorized client, which would get a reset.
#[tokio::test]
async fn clients_without_a_key_delay_no_authorized_client() {
    let app = api(&[KEYED, ONE_REQUEST]).await;
    let accepted = app.post_with(&[("authorization", "Bearer k")], GOOD).await;
    assert_eq!(accepted.status(), 202);
    let mut strangers = Vec::new();
    for bytes in unfinished() {
        for _ in 0..BEYOND {
            strangers.push(sent(&app, &bytes).await);
        }
        let accepted = app.post_with(&[("authorization", "Bearer k")], GOOD);
        let accepted = timeout(WAIT_MAX, accepted).await;
        let accepted = accepted.unwrap_or_else(|_| panic!("not served: {bytes:.60}"));
        assert_eq!(accepted.status(), 202, "{bytes:.60}");
        assert_health(&app).await;
    }
    app.stop().await;
}

// The bodies never arrive, so a response shows that they are not read.
#[tokio::test]
async fn refused_request_is_answered_before_its_body_and_closed() {
    let own = [KEYED, ("MAX_BODY_BYTES", "1000")];
    let app = api(&own).await;
    let key = "authorization: Bearer k\r\n";
    let plain = "POST /events HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\n";
    let requests = [
        (401, head("content-length: 1000\r\n")),
        (401, head("transfer-encoding: chunked\r\n")),
        (401, head("expect: 100-continue\r\ncontent-length: 1\r\n")),
        (413, head(&format!("{key}content-length: 1001\r\n"))),
        (413, head(&format!("{key}content-length: {}\r\n", 1_u64 << 60))),
        (
            413,
            head(&format!("{key}transfer-encoding: chunked\r\n"))
                + &format!("3e9\r\n{}\r\n", "x".repeat(1_001)),
        ),
        (415, format!("{plain}{key}content-length: 1000\r\n\r\n")),
        (404, head("content-length: 1000\r\n").replace("events", "")),
    ];
    for (status, request) in requests {
        let mut connection = sent(&app, &request).await;
        let response = connection.response().await.expect("a response");
        assert_eq!(response.status, status, "{request:.200}");
        assert_eq!(response.header("connection"), Some("close"));
        assert!(connection.response().await.is_none(), "it is closed");
    }
    assert_eq!(stored(&app).await, 0);
    app.stop().await;
}

#[tokio::test]
async fn health_is_served_while_an_upload_takes_the_only_place() {
    let app = api(&[ONE_REQUEST]).await;
    let mut upload = sent(&app, &head(&format!("content-length: {}\r\n", GOOD.len()))).await;
    upload.send(&GOOD[..1]).await;
    assert_health(&app).await;
    upload.send(&GOOD[1..]).await;
    assert_eq!(upload.response().await.unwrap().status, 202);
    app.stop().await;
}

// Without API_KEYS every client can take a place. A slow body must not keep it.
#[tokio::test]
async fn slow_upload_ends_with_503_for_the_next_request() {
    let app = api(&[ONE_REQUEST]).await;
    let mut slow = sent(&app, &(head("content-length: 1000\r\n") + "{")).await;
    assert_eq!(app.post(GOOD).await.status(), 202);
    let response = slow.response().await.expect("a response");
    assert_eq!(response.status, 503);
    assert!(response.header("retry-after").is_some());
    assert_eq!(stored(&app).await, 1);
    app.stop().await;
}

#[tokio::test]
async fn bodies_over_max_bodies_bytes_return_503_and_then_fit_again() {
    let limits = [("MAX_BODY_BYTES", "1000"), ("MAX_BODIES_BYTES", "1000")];
    let app = api(&limits).await;
    let mut large = sent(&app, &head("content-length: 950\r\n")).await;
    until("the large body is reserved", || async { app.post(GOOD).await.status() == 503 }).await;
    let refused = app.post(GOOD).await;
    assert!(refused.headers().contains_key("retry-after"));
    let before = stored(&app).await;
    large.send(GOOD.to_owned() + &" ".repeat(950 - GOOD.len())).await;
    assert_eq!(large.response().await.unwrap().status, 202);
    until("the bytes are free again", || async { app.post(GOOD).await.status() == 202 }).await;
    assert_eq!(stored(&app).await, before + 2);
    app.stop().await;
}

#[tokio::test]
async fn head_over_32_kib_returns_431() {
    let app = api(&[]).await;
    let around = "GET /livez HTTP/1.1\r\nhost: x\r\na: \r\n\r\n";
    for (bytes, status) in
        [(32 << 10, 200), ((32 << 10) + 1, 431), (400 << 10, 431), (4 << 20, 431)]
    {
        let filling = "x".repeat(bytes - around.len());
        let mut connection = sent(&app, &around.replace("a: ", &format!("a: {filling}"))).await;
        let response = connection.response().await.expect("a response, no reset");
        assert_eq!(response.status, status, "{bytes} bytes");
    }
    app.stop().await;
}
