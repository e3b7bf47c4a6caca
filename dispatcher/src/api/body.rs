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
mod tests;
