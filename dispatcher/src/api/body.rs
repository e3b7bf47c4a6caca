//! Body of `POST /events`: read within limits of size and time, then parsed in one visit.
//!
//! The payload is borrowed from the body as text, so its bytes are stored and sent unchanged.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, EXPECT};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::problem::Problem;

/// Maximum nesting of arrays and objects in a payload.
const DEPTH_MAX: usize = 128;

/// Time limit for a whole body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Maximum number of bytes that are read of a refused body. If none were read, the client would get
/// a reset instead of the response.
const DISCARDED_BYTES_MAX: usize = 16 << 20;

/// Maximum length of a field name in a problem.
const FIELD_CHARS_MAX: usize = 64;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct PostBody<'a> {
    /// JSON text of the payload as the client wrote it.
    pub(super) payload: &'a str,
    pub(super) target_url: Option<String>,
}

/// Reads a body of at most `bytes_max` bytes.
pub(super) async fn read(request: Request, bytes_max: usize) -> Result<Bytes, Problem> {
    if content_length(&request).is_some_and(|length| length > bytes_max as u64) {
        discard(request).await;
        return Err(Problem::too_large(bytes_max));
    }
    let mut body = request.into_body();
    match timeout(BODY_TIMEOUT, read_all(&mut body, bytes_max)).await {
        Err(_) => Err(Problem::slow_body(BODY_TIMEOUT)),
        Ok(Err(error)) => Err(Problem::malformed(format!(
            "the body is incomplete: {error}; send it again"
        ))),
        Ok(Ok(Some(bytes))) => Ok(bytes),
        Ok(Ok(None)) => {
            drain(body).await;
            Err(Problem::too_large(bytes_max))
        }
    }
}

/// Reads and drops the body of a refused request, up to [`DISCARDED_BYTES_MAX`]. A client that sent
/// `Expect: 100-continue` has not sent its body yet, so none is read.
pub(super) async fn discard(request: Request) {
    let is_too_long =
        content_length(&request).is_some_and(|length| length > DISCARDED_BYTES_MAX as u64);
    if is_too_long || request.headers().contains_key(EXPECT) {
        return;
    }
    drain(request.into_body()).await;
}

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
    let _ = timeout(BODY_TIMEOUT, reading).await;
}

fn content_length(request: &Request) -> Option<u64> {
    request
        .headers()
        .get(CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

/// Returns `None` if the body is longer than `bytes_max`.
async fn read_all(body: &mut Body, bytes_max: usize) -> Result<Option<Bytes>, axum::Error> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame?;
        let data = frame.data_ref().map_or(&[][..], |data| data);
        if bytes.len() + data.len() > bytes_max {
            return Ok(None);
        }
        bytes.extend_from_slice(data);
    }
    Ok(Some(bytes.freeze()))
}

/// Parses a complete body.
pub(super) fn parse(bytes: &[u8]) -> Result<PostBody<'_>, Problem> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let mut refused = None;
    let body = reader
        .deserialize_map(BodyVisitor(&mut refused))
        .and_then(|body| reader.end().map(|()| body));
    let (payload, target) = body.map_err(|error| {
        let detail = format!("the body is not of the form {FORM}: {error}");
        match refused {
            Some(field) => Problem::malformed_field(field, detail),
            None => Problem::malformed(detail),
        }
    })?;
    let payload = payload.map(RawValue::get).ok_or_else(|| {
        Problem::malformed_field(
            "payload",
            "the field payload is missing; send any JSON value, null included",
        )
    })?;
    if is_deeper(payload, DEPTH_MAX) {
        return Err(Problem::too_deep(DEPTH_MAX));
    }
    let target_url = match target.map(RawValue::get) {
        None => None,
        Some(text) => serde_json::from_str::<Option<String>>(text).map_err(|_| {
            Problem::malformed_field(
                "target_url",
                "the field target_url is not a string or null; send a URL or omit it",
            )
        })?,
    };
    Ok(PostBody {
        payload,
        target_url,
    })
}

const FORM: &str = r#"{"payload": <any JSON>, "target_url": <optional URL>}"#;

/// Reads the two fields. Stores the name of an unknown or repeated field in its reference.
struct BodyVisitor<'a>(&'a mut Option<String>);

impl BodyVisitor<'_> {
    fn refuse<E: Error>(self, name: &str, reason: &str) -> E {
        let name: String = name.chars().take(FIELD_CHARS_MAX).collect();
        let error = E::custom(format_args!("{reason} field `{name}`"));
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

/// Field name, borrowed unless the client wrote it with escapes.
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

/// Returns true if valid JSON text is nested deeper than `depth_max`. The parser does not count the
/// depth of raw values.
fn is_deeper(json: &str, depth_max: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > depth_max {
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
