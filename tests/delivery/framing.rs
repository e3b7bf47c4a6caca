//! Framing and length of responses, and the part that the view shows. The receivers send raw bytes.

use futures_util::future::join_all;
use serde_json::json;

use super::{ONCE, ended, sent};
use crate::support::app::App;
use crate::support::fixture::Endpoint;
use crate::support::raw::RawReceiver;
use crate::support::view::attempts;

/// A response as bytes, with the outcome, the status and the snippet that the view shows.
const BYTES: &[(&str, &str, Option<u16>, Option<&str>)] = &[
    ("HTTP/1.1 200 OK\r\n\r\nuntil the close", "delivered", Some(200), Some("until the close")),
    ("HTTP/1.0 200 OK\r\n\r\nold", "delivered", Some(200), Some("old")),
    ("HTTP/1.1 500 No\r\n\r\nuntil the close", "rejected", Some(500), Some("until the close")),
    ("HTTP/1.1 204 No Content\r\n\r\n", "delivered", Some(204), Some("")),
    ("HTTP/1.1 204 No Content\r\ncontent-length: 2\r\n\r\n{}", "delivered", Some(204), Some("")),
    ("HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", "rejected", Some(304), Some("")),
    ("HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n", "delivered", Some(200), Some("")),
    ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\ntoo long", "delivered", Some(200), Some("too")),
    (
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nlink: a\r\n\r\nHTTP/1.1 201 Yes\r\n\r\n",
        "delivered",
        Some(201),
        Some(""),
    ),
    (
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nx: y\r\n\r\n",
        "delivered",
        Some(200),
        Some("hello"),
    ),
    (
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "body",
        None,
        Some("hello"),
    ),
    ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello", "body", None, Some("hello")),
    ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", "body", None, Some("")),
    ("HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", "body", None, None),
    ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", "body", None, None),
    ("HTTP/1.1 99 Low\r\n\r\n", "body", None, None),
    ("HTTP/1.1 1000 High\r\n\r\n", "body", None, None),
    ("HTTP/9.1 200 OK\r\n\r\n", "body", None, None),
    ("200 OK\r\n\r\n", "body", None, None),
    ("ICY 200 OK\r\n\r\n", "body", None, None),
    ("<html>200</html>\r\n\r\n", "body", None, None),
    ("{\"status\":200}\r\n\r\n", "body", None, None),
    ("", "reset", None, None),
    ("H", "body", None, None),
    ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n", "body", None, None),
    ("HTTP/1.1 100 Continue\r\n\r\n", "body", None, None),
];

#[tokio::test]
async fn framing_ends_the_response_and_malformed_ones_fail() {
    let app = App::start(&[ONCE, ("MAX_IN_FLIGHT", "8")]).await;
    let mut sent = Vec::new();
    for case in BYTES {
        let receiver = RawReceiver::responding_with(case.0).await;
        let id = app.accept("1", &receiver.url()).await;
        sent.push((case, receiver, id));
    }
    let events = sent.iter().map(|(case, receiver, id)| {
        let app = &app;
        async move {
            let event = ended(app, id).await;
            assert_eq!(receiver.requests().len(), 1, "{:?}", case.0);
            (*case, event)
        }
    });
    for ((bytes, outcome, status, response), event) in join_all(events).await {
        let attempt = &attempts(&event)[0];
        let found = (
            attempt["outcome"].as_str().unwrap(),
            attempt["status_code"].as_u64().and_then(|status| u16::try_from(status).ok()),
            attempt["response"].as_str(),
        );
        assert_eq!(found, (*outcome, *status, *response), "{bytes:?}: {event:#}");
    }
    app.stop().await;
}

#[tokio::test]
async fn response_limit_is_exact_for_every_framing() {
    let app =
        App::start(&[ONCE, ("MAX_RESPONSE_BYTES", "1000"), ("RESPONSE_SNIPPET_BYTES", "7")]).await;
    for (bytes, outcome) in
        [(999, "delivered"), (1_000, "delivered"), (1_001, "response_too_large")]
    {
        let body = "z".repeat(bytes);
        let (first, second) = body.split_at(500);
        let framings = [
            format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n{body}"),
            format!("HTTP/1.1 200 OK\r\n\r\n{body}"),
            format!(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1f4\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n",
                second.len()
            ),
        ];
        for response in framings {
            let receiver = RawReceiver::responding_with(response).await;
            let event = sent(&app, &receiver.url()).await;
            let attempt = &attempts(&event)[0];
            assert_eq!(attempt["outcome"], outcome, "{bytes}: {event:#}");
            assert_eq!(
                (&attempt["status_code"], &attempt["response"]),
                (&json!(200), &json!("zzzzzzz"))
            );
        }
    }
    app.stop().await;
}

// The snippet is cut by bytes and decoded as UTF-8. A zero byte
// must not prevent the settle. Postgres refuses it in text.
#[tokio::test]
async fn any_bytes_of_a_response_can_be_shown() {
    let app = App::start(&[ONCE, ("RESPONSE_SNIPPET_BYTES", "8")]).await;
    let bodies: &[(&[u8], &str)] = &[
        (b"short", "short"),
        (b"exactly8", "exactly8"),
        (b"more than eight", "more tha"),
        (b"a\0b\0", "a\0b\0"),
        (b"\0", "\0"),
        (b"\xff\xfe\xfd", "\u{fffd}\u{fffd}\u{fffd}"),
        (b"\xed\xa0\x80", "\u{fffd}\u{fffd}\u{fffd}"),
        ("1234567é".as_bytes(), "1234567\u{fffd}"),
        ("12345678é".as_bytes(), "12345678"),
        ("\u{feff}x\u{2028}".as_bytes(), "\u{feff}x\u{2028}"),
        (b"\x1b[31m\r\n", "\u{1b}[31m\r\n"),
    ];
    for (body, shown) in bodies {
        for status in [200, 500] {
            let length = body.len();
            let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n");
            let response = [head.as_bytes(), body].concat();
            let receiver = RawReceiver::responding_with(response).await;
            let event = sent(&app, &receiver.url()).await;
            assert_eq!(attempts(&event)[0]["response"], *shown, "{}", body.escape_ascii());
            assert_eq!(attempts(&event)[0]["status_code"], status);
        }
    }
    app.stop().await;
}

// "abc" in gzip format. A client that decodes it shows "abc", and a gzip bomb exhausts its memory.
#[tokio::test]
async fn compressed_response_is_stored_without_decoding() {
    let app = App::start(&[ONCE]).await;
    let packed = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x4b\x4c\x4a\x06\0\xc2\x41\x24\x35\x03\0\0\0";
    for encoding in ["gzip", "deflate", "br", "zstd", "x-unknown"] {
        let length = packed.len();
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-encoding: {encoding}\r\ncontent-length: {length}");
        let response = [head.as_bytes(), b"\r\n\r\n", packed].concat();
        let receiver = RawReceiver::responding_with(response).await;
        let event = sent(&app, &receiver.url()).await;
        assert_eq!(event["status"], "delivered", "{encoding}: {event:#}");
        let shown = String::from_utf8_lossy(packed);
        assert_eq!(attempts(&event)[0]["response"], *shown, "{encoding}");
    }
    app.stop().await;
}

#[tokio::test]
async fn snippet_limit_of_zero_stores_no_snippet() {
    let app = App::start(&[ONCE, ("RESPONSE_SNIPPET_BYTES", "0")]).await;
    let endpoint = Endpoint::responding_with(200).await;
    let event = sent(&app, &endpoint.url(1)).await;
    assert_eq!(event["status"], "delivered");
    assert!(["", "null"].contains(&attempts(&event)[0]["response"].as_str().unwrap_or("null")));
    app.stop().await;
}
