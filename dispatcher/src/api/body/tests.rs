#![expect(clippy::unwrap_used, reason = "tests")]
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use futures_util::{FutureExt, StreamExt, stream};
use proptest::prelude::*;

use super::*;
use crate::api::connections::ConnectionLimiter;

fn payload_of(body: &str) -> String {
    parse(body.as_bytes()).unwrap().payload.to_owned()
}

#[test]
fn payload_is_the_text_that_the_client_sent() {
    for payload in [
        r#"{"b": 1.0,  "a":[ ] }"#,
        "null",
        "1e999999",
        r#""\ud800 \u00e9 \/""#,
        r#"{"a":1,"a":2}"#,
        "-0",
        "123456789012345678901234567890",
        "[\n\t1\r]",
        "\"é😀\"",
        "false",
    ] {
        assert_eq!(
            payload_of(&format!(" {{ \"payload\" : {payload} , \"target_url\":null}} ")),
            payload
        );
    }
    assert_eq!(payload_of(r#"{"payl\u006fad": 1}"#), "1");
}

#[test]
fn target_is_a_string_or_null_or_absent() {
    let target = |body: &str| parse(body.as_bytes()).map(|body| body.target_url).ok();
    assert_eq!(target(r#"{"payload":1}"#), Some(None));
    assert_eq!(target(r#"{"payload":1,"target_url":null}"#), Some(None));
    assert_eq!(target(r#"{"target_url":"http:\/\/x","payload":1}"#), Some(Some("http://x".into())));
    for wrong in ["1", "[]", "{}", "true", r#""\ud800""#] {
        assert_eq!(target(&format!(r#"{{"payload":1,"target_url":{wrong}}}"#)), None, "{wrong}");
    }
}

#[test]
fn any_other_form_is_refused() {
    for body in [
        "",
        " ",
        "nonsense",
        "null",
        "[1]",
        r#"[1,"http://x"]"#,
        "{}",
        r#"{"target_url":"http://x"}"#,
        r#"{"payload":1,"targetUrl":"http://x"}"#,
        r#"{"payload":1,"payload":1}"#,
        r#"{"payload":1,"target_url":null,"target_url":"http://x"}"#,
        r#"{"payload":1} x"#,
        r#"{"payload":}"#,
        r#"{"payload":01}"#,
        r#"{"payload":1,}"#,
        "\u{feff}{\"payload\":1}",
        r#"{"payload":NaN}"#,
        "\"payload\"",
    ] {
        assert!(parse(body.as_bytes()).is_err(), "{body}");
    }
    assert!(parse(b"{\"payload\":\"\xff\"}").is_err());
}

#[test]
fn payload_of_128_levels_passes_and_129_are_refused() {
    let nested =
        |depth: usize| format!(r#"{{"payload":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    assert!(parse(nested(128).as_bytes()).is_ok());
    assert!(parse(nested(129).as_bytes()).is_err());
    assert!(parse(nested(100_000).as_bytes()).is_err());
    let brackets = format!(r#"{{"payload":"{}\"["}}"#, "[{".repeat(200));
    assert!(parse(brackets.as_bytes()).is_ok(), "brackets in a string do not count");
}

fn any_json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,9})?([eE][+-]?[0-9]{1,4})?",
        any::<String>().prop_map(|s| serde_json::to_string(&s).unwrap()),
    ];
    leaf.prop_recursive(6, 48, 6, |inner| {
        prop_oneof![
            (prop::collection::vec(inner.clone(), 0..6), "[ \t\n\r]{0,3}").prop_map(
                |(items, blank)| format!("[{blank}{}{blank}]", items.join(&format!("{blank},")))
            ),
            (prop::collection::vec(("[a-c]", inner), 0..6), "[ \t\n\r]{0,3}").prop_map(
                |(fields, blank)| {
                    let fields: Vec<_> =
                        fields.iter().map(|(k, v)| format!("\"{k}\"{blank}:{v}")).collect();
                    format!("{{{}{blank}}}", fields.join(","))
                }
            ),
        ]
    })
}

proptest! {
    #[test]
    fn payload_is_never_altered(payload in any_json(), target_first in any::<bool>()) {
        let body = if target_first {
            format!(r#"{{"target_url":"http://x","payload": {payload}  }}"#)
        } else {
            format!(r#"{{"payload":{payload},"target_url":"http://x"}}"#)
        };
        prop_assert_eq!(parse(body.as_bytes()).unwrap().payload, payload);
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let wrapped = [b"{\"payload\":", &bytes[..], b"}"].concat();
        for body in [&bytes, &wrapped] {
            if let Ok(parsed) = parse(body) {
                let text = std::str::from_utf8(body).unwrap();
                prop_assert!(text.contains(parsed.payload));
            }
        }
    }
}

/// A request on a connection of its own.
async fn request(body: Body) -> Request {
    let mut request = Request::new(body);
    let connection = ConnectionLimiter::new(1).admit().await;
    request.extensions_mut().insert(connection);
    request
}

/// A body that never ends, and counts its chunks.
fn endless(chunks: &Arc<AtomicUsize>) -> Body {
    let chunks = Arc::clone(chunks);
    Body::from_stream(stream::repeat_with(move || {
        chunks.fetch_add(1, Ordering::Relaxed);
        Ok::<_, io::Error>(Bytes::from_static(&[b' '; 1 << 10]))
    }))
}

fn free(bytes: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(bytes))
}

/// A body without a length, which arrives in two chunks of the given sizes and then goes on.
async fn unfinished(sizes: [usize; 2]) -> Request {
    let chunks = sizes.map(|size| Ok::<_, io::Error>(Bytes::from(vec![b' '; size])));
    request(Body::from_stream(stream::iter(chunks).chain(stream::pending()))).await
}

async fn with_length(length: usize, body: Body) -> Request {
    let mut request = request(body).await;
    request.headers_mut().insert(CONTENT_LENGTH, length.into());
    request
}

#[tokio::test]
async fn endless_body_is_refused_at_the_first_byte_over_the_limit() {
    let chunks = Arc::<AtomicUsize>::default();
    let refused = read(request(endless(&chunks)).await, 10, &free(1 << 20)).await;
    assert_eq!(refused.unwrap_err(), Problem::too_large(10));
    assert_eq!(chunks.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn body_with_too_large_a_length_is_not_read() {
    let chunks = Arc::<AtomicUsize>::default();
    for bytes in [11, usize::MAX] {
        let refused = read(with_length(bytes, endless(&chunks)).await, 10, &free(20)).await;
        assert_eq!(refused.unwrap_err(), Problem::too_large(10));
    }
    assert_eq!(chunks.load(Ordering::Relaxed), 0);
}

// Nothing of the first body has arrived, and nothing of the second one may be read.
#[tokio::test]
async fn announced_bytes_are_reserved_before_they_arrive() {
    let free = free(15);
    let silent = with_length(10, Body::from_stream(stream::pending::<io::Result<Bytes>>())).await;
    let mut first = pin!(read(silent, 10, &free));
    assert!(first.as_mut().now_or_never().is_none());
    let chunks = Arc::<AtomicUsize>::default();
    let refused = read(with_length(6, endless(&chunks)).await, 10, &free).await;
    assert_eq!(refused.unwrap_err(), overloaded());
    assert_eq!(chunks.load(Ordering::Relaxed), 0);
    let fits = read(with_length(5, Body::from("12345")).await, 10, &free);
    assert_eq!(fits.await.unwrap().0, "12345");
}

#[tokio::test]
async fn bytes_of_a_chunked_body_are_reserved_as_they_arrive() {
    let free = free(15);
    {
        let mut first = pin!(read(unfinished([4, 4]).await, 10, &free));
        assert!(first.as_mut().now_or_never().is_none());
        assert_eq!(free.available_permits(), 15 - 8);
        let refused = read(unfinished([4, 4]).await, 10, &free).await;
        assert_eq!(refused.unwrap_err(), overloaded());
        assert_eq!(free.available_permits(), 15 - 8);
    }
    assert_eq!(free.available_permits(), 15, "the client disconnected");
}

// The insert uses the memory of the body, so the reservation ends after it.
#[tokio::test]
async fn bytes_stay_reserved_until_the_body_is_dropped() {
    let free = free(15);
    let received = read(request(Body::from("12345")).await, 10, &free).await;
    assert_eq!(free.available_permits(), 10);
    drop(received);
    assert_eq!(free.available_permits(), 15);
}

fn overloaded() -> Problem {
    reserve(&free(0), 1).unwrap_err()
}
