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
fn the_payload_is_the_clients_own_text() {
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
fn a_target_is_text_or_absent() {
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
fn any_other_shape_is_refused() {
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
fn depth_is_counted_in_the_payload_alone_and_128_levels_pass() {
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
        "brackets in a string are no depth"
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
    fn no_payload_is_ever_altered(payload in any_json(), target_first in any::<bool>()) {
        let body = if target_first {
            format!(r#"{{"target_url":"http://x","payload": {payload}  }}"#)
        } else {
            format!(r#"{{"payload":{payload},"target_url":"http://x"}}"#)
        };
        prop_assert_eq!(parse(body.as_bytes()).unwrap().payload, payload);
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_kept_and_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let wrapped = [b"{\"payload\":", &bytes[..], b"}"].concat();
        for body in [&bytes, &wrapped] {
            if let Ok(parsed) = parse(body) {
                let whole = std::str::from_utf8(body).unwrap();
                prop_assert!(whole.contains(parsed.payload));
            }
        }
    }
}

/// A chunk that tells how many of its kind there are, and how many there were at most.
struct Chunk(Arc<[AtomicUsize; 2]>);

const CHUNK_BYTES: usize = 1 << 20;

impl Chunk {
    fn fresh(counts: &Arc<[AtomicUsize; 2]>) -> Bytes {
        let alive = counts[0].fetch_add(1, Ordering::Relaxed) + 1;
        counts[1].fetch_max(alive, Ordering::Relaxed);
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
        self.0[0].fetch_sub(1, Ordering::Relaxed);
    }
}

// Nothing announces how long a chunked body is: it is read on, so that the client sees its 413, and kept nowhere.
#[tokio::test]
async fn of_a_body_that_is_refused_no_chunk_is_kept_and_its_end_is_not_waited_for() {
    let counts = Arc::<[AtomicUsize; 2]>::default();
    let sent = Arc::<AtomicUsize>::default();
    let endless = stream::repeat_with({
        let (counts, sent) = (Arc::clone(&counts), Arc::clone(&sent));
        move || {
            sent.fetch_add(1, Ordering::Relaxed);
            Ok::<_, io::Error>(Chunk::fresh(&counts))
        }
    });
    let refused = read(Request::new(Body::from_stream(endless)), 10).await;
    assert!(refused.is_err());
    assert_eq!(counts[1].load(Ordering::Relaxed), 1, "chunks at once");
    let taken = sent.load(Ordering::Relaxed);
    assert_eq!(taken, 1 + DISCARDED_BYTES_MAX / CHUNK_BYTES);
}
