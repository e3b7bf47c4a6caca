#![expect(clippy::unwrap_used, reason = "tests")]
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::stream;
use proptest::prelude::*;

use super::*;

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
            payload_of(&format!(
                " {{ \"payload\" : {payload} , \"target_url\":null}} "
            )),
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
    assert_eq!(
        target(r#"{"target_url":"http:\/\/x","payload":1}"#),
        Some(Some("http://x".into()))
    );
    for wrong in ["1", "[]", "{}", "true", r#""\ud800""#] {
        assert_eq!(
            target(&format!(r#"{{"payload":1,"target_url":{wrong}}}"#)),
            None,
            "{wrong}"
        );
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
    let nested = |depth: usize| {
        format!(
            r#"{{"payload":{}{}}}"#,
            "[".repeat(depth),
            "]".repeat(depth)
        )
    };
    assert!(parse(nested(128).as_bytes()).is_ok());
    assert!(parse(nested(129).as_bytes()).is_err());
    assert!(parse(nested(100_000).as_bytes()).is_err());
    let brackets = format!(r#"{{"payload":"{}\"["}}"#, "[{".repeat(200));
    assert!(
        parse(brackets.as_bytes()).is_ok(),
        "brackets in a string do not count"
    );
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
            (
                prop::collection::vec(("[a-c]", inner), 0..6),
                "[ \t\n\r]{0,3}"
            )
                .prop_map(|(fields, blank)| {
                    let fields: Vec<_> = fields
                        .iter()
                        .map(|(k, v)| format!("\"{k}\"{blank}:{v}"))
                        .collect();
                    format!("{{{}{blank}}}", fields.join(","))
                }),
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

/// Numbers of chunks.
#[derive(Default)]
struct Counts {
    sent: AtomicUsize,
    alive: AtomicUsize,
    alive_max: AtomicUsize,
}

/// A chunk that counts itself while it exists.
struct Chunk(Arc<Counts>);

const CHUNK_BYTES: usize = 1 << 20;

impl Chunk {
    fn create(counts: &Arc<Counts>) -> Bytes {
        counts.sent.fetch_add(1, Ordering::Relaxed);
        let alive = counts.alive.fetch_add(1, Ordering::Relaxed) + 1;
        counts.alive_max.fetch_max(alive, Ordering::Relaxed);
        Bytes::from_owner(Self(Arc::clone(counts)))
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &[b' '; CHUNK_BYTES]
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.0.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

// A chunked body has no Content-Length. It is read so that the client sees its 413, and each chunk
// is dropped before the next one is read.
#[tokio::test]
async fn endless_body_is_refused_after_a_limit_and_not_stored() {
    let counts = Arc::<Counts>::default();
    let endless = stream::repeat_with({
        let counts = Arc::clone(&counts);
        move || Ok::<_, io::Error>(Chunk::create(&counts))
    });
    let refused = read(Request::new(Body::from_stream(endless)), 10).await;
    assert!(refused.is_err());
    assert_eq!(counts.alive_max.load(Ordering::Relaxed), 1);
    let sent = counts.sent.load(Ordering::Relaxed);
    assert_eq!(sent, 1 + DISCARDED_BYTES_MAX / CHUNK_BYTES);
}
