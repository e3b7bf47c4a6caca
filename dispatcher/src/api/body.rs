//! The body of `POST /events`: read within its bounds, and taken apart without touching the payload's bytes.

use std::borrow::Cow;
use std::fmt;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, EXPECT};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::problem::{BODY_SECONDS_MAX, Problem};

/// Levels of arrays and objects that a payload may have.
const DEPTH_MAX: usize = 128;

/// How much of a body that is refused anyway is read, so that the client gets to see the answer instead of a reset.
const DISCARDED_BYTES_MAX: usize = 16 << 20;

/// As much of a field's name as is told back.
const FIELD_CHARS_MAX: usize = 64;

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PostBody<'a> {
    /// The exact bytes of the value.
    pub(super) payload: &'a str,
    /// The target, if one was given.
    pub(super) target_url: Option<String>,
}

/// Reads a body of at most `bytes_max` bytes.
pub(super) async fn read(request: Request, bytes_max: usize) -> Result<Bytes, Problem> {
    if announced(&request).is_some_and(|length| length > bytes_max as u64) {
        discard(request).await;
        return Err(Problem::too_large(bytes_max));
    }
    let mut body = request.into_body();
    match timeout(BODY_SECONDS_MAX, gather(&mut body, bytes_max)).await {
        Err(_) => Err(Problem::slow_body()),
        Ok(Err(broken)) => Err(Problem::malformed(format!("the body broke off: {broken}"))),
        Ok(Ok(Some(bytes))) => Ok(bytes),
        Ok(Ok(None)) => {
            drain(body).await;
            Err(Problem::too_large(bytes_max))
        }
    }
}

/// Reads a body that nobody wants, within bounds. A client that waits for leave to send it is not given leave.
pub(super) async fn discard(request: Request) {
    let hopeless = announced(&request).is_some_and(|length| length > DISCARDED_BYTES_MAX as u64);
    if hopeless || request.headers().contains_key(EXPECT) {
        return;
    }
    drain(request.into_body()).await;
}

/// Counts what comes and keeps none of it.
async fn drain(mut body: Body) {
    let mut left = DISCARDED_BYTES_MAX;
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                break;
            }
        }
    };
    let _ = timeout(BODY_SECONDS_MAX, reading).await;
}

fn announced(request: &Request) -> Option<u64> {
    request
        .headers()
        .get(CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

/// The whole body, or nothing if it is over the bound.
async fn gather(body: &mut Body, bytes_max: usize) -> Result<Option<Bytes>, axum::Error> {
    let mut gathered = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame?;
        let data = frame.data_ref().map_or(&[][..], |data| data);
        if gathered.len() + data.len() > bytes_max {
            return Ok(None);
        }
        gathered.extend_from_slice(data);
    }
    Ok(Some(gathered.freeze()))
}

/// Takes a body apart.
pub(super) fn parse(bytes: &[u8]) -> Result<PostBody<'_>, Problem> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let mut refused = None;
    let body = reader
        .deserialize_map(BodyVisitor(&mut refused))
        .and_then(|body| reader.end().map(|()| body));
    let (payload, target) = body.map_err(|error| {
        let detail = format!("the body is not {FORM}: {error}");
        match refused {
            Some(field) => Problem::malformed_field(field, detail),
            None => Problem::malformed(detail),
        }
    })?;
    let payload = payload
        .map(RawValue::get)
        .ok_or_else(|| Problem::malformed_field("payload", "payload is missing"))?;
    if is_deeper(payload, DEPTH_MAX) {
        return Err(Problem::too_deep(DEPTH_MAX));
    }
    let target_url = match target.map(RawValue::get) {
        None => None,
        Some(text) => serde_json::from_str::<Option<String>>(text).map_err(|_| {
            Problem::malformed_field("target_url", "target_url must be a string or null")
        })?,
    };
    Ok(PostBody {
        payload,
        target_url,
    })
}

const FORM: &str = r#"a JSON object {"payload": <any JSON>, "target_url"?: "http(s)://..."}"#;

/// Notes the field that it refuses: unknown, or there twice.
struct BodyVisitor<'a>(&'a mut Option<String>);

impl BodyVisitor<'_> {
    fn refuse<E: Error>(self, name: &str, why: &str) -> E {
        let name: String = name.chars().take(FIELD_CHARS_MAX).collect();
        let error = E::custom(format_args!("{why} field `{name}`"));
        *self.0 = Some(name);
        error
    }
}

impl<'de> Visitor<'de> for BodyVisitor<'_> {
    type Value = (Option<&'de RawValue>, Option<&'de RawValue>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut payload, mut target_url) = (None, None);
        while let Some(Key(name)) = map.next_key()? {
            let (slot, name) = match &*name {
                "payload" => (&mut payload, "payload"),
                "target_url" => (&mut target_url, "target_url"),
                other => return Err(self.refuse(other, "unknown")),
            };
            if slot.replace(map.next_value::<&RawValue>()?).is_some() {
                return Err(self.refuse(name, "duplicate"));
            }
        }
        Ok((payload, target_url))
    }
}

/// A field's name, borrowed unless it was written with escapes.
struct Key<'de>(Cow<'de, str>);

impl<'de> serde::Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field name")
            }
            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(name)))
            }
            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

/// Whether JSON text that is known to be well-formed is nested deeper than `most`. The parser itself skips raw values
/// without counting.
fn is_deeper(json: &str, most: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > most {
                    return true;
                }
            }
            b']' | b'}' if !in_string => depth -= 1,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
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
                    |(items, blank)| format!(
                        "[{blank}{}{blank}]",
                        items.join(&format!("{blank},"))
                    )
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
}
