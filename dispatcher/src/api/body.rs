//! Body of `POST /events` and items of `POST /events/batch`: read within limits of size and time,
//! then parsed in one visit.
//!
//! The payload is borrowed from the body as text, so its bytes are stored and sent unchanged.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::http::header::CONTENT_LENGTH;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use serde::de::{Deserializer as _, Error, MapAccess, Visitor};
use serde_json::value::RawValue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::connections::Connection;
use super::problem::Problem;

/// Maximum nesting of arrays and objects in a payload.
const DEPTH_MAX: usize = 128;

/// Time limit for a whole body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Maximum length of a field name in a problem.
const FIELD_CHARS_MAX: usize = 64;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct PostBody<'a> {
    /// JSON text of the payload as the client wrote it.
    pub(super) payload: &'a str,
    pub(super) target_url: Option<String>,
    /// Only in an item of a batch. A single post has a header.
    pub(super) idempotency_key: Option<String>,
}

/// Body of `POST /events/batch`, with the text of each item.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BatchBody<'a> {
    #[serde(borrow)]
    pub(super) events: Vec<&'a RawValue>,
}

/// Reads a body of at most `bytes_max` bytes and returns it with its reservation. Its bytes are
/// reserved from `free`, before they arrive if their number is known. A refused body is not read to
/// its end: its connection closes.
pub(super) async fn read(
    request: Request,
    bytes_max: usize,
    free: &Arc<Semaphore>,
) -> Result<(Bytes, OwnedSemaphorePermit), Problem> {
    let length = content_length(&request).unwrap_or(0);
    if length > bytes_max {
        return Err(Problem::too_large(bytes_max));
    }
    let mut reserved = reserve(free, length)?;
    let connection = Connection::of(&request);
    let mut bytes = BytesMut::with_capacity(length);
    let mut body = request.into_body();
    let upload = connection.start_upload();
    let reading = async {
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                Problem::malformed(format!("the body is incomplete: {error}; send it again"))
            })?;
            let data = frame.data_ref().map_or(&[][..], |data| data);
            let received = bytes.len() + data.len();
            if received > bytes_max {
                return Err(Problem::too_large(bytes_max));
            }
            let missing = received.saturating_sub(reserved.num_permits());
            reserved.merge(reserve(free, missing)?);
            bytes.extend_from_slice(data);
        }
        Ok(())
    };
    tokio::select! {
        biased;
        read = timeout(BODY_TIMEOUT, reading) => {
            read.map_err(|_| Problem::slow_body(BODY_TIMEOUT))??;
        }
        () = connection.must_close.cancelled() => {
            let detail = "the limit of MAX_API_CONNECTIONS is reached and this body is slow; \
                          nothing was stored, try again";
            return Err(Problem::overloaded(detail));
        }
    }
    upload.complete();
    Ok((bytes.freeze(), reserved))
}

fn reserve(free: &Arc<Semaphore>, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
    let permits = u32::try_from(bytes).ok();
    let reserved = permits.and_then(|n| Arc::clone(free).try_acquire_many_owned(n).ok());
    reserved.ok_or_else(|| {
        Problem::overloaded(
            "the bodies that are being received have reached MAX_BODIES_BYTES; nothing was \
             stored, try again",
        )
    })
}

fn content_length(request: &Request) -> Option<usize> {
    request.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Parses a complete body.
pub(super) fn parse(bytes: &[u8]) -> Result<PostBody<'_>, Problem> {
    parse_with(bytes, &["payload", "target_url"])
}

/// Parses an item of a batch.
pub(super) fn parse_item(text: &str) -> Result<PostBody<'_>, Problem> {
    parse_with(text.as_bytes(), &["payload", "target_url", "idempotency_key"])
}

/// Parses an object with these fields.
fn parse_with<'a>(bytes: &'a [u8], names: &[&'static str]) -> Result<PostBody<'a>, Problem> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let mut refused = None;
    let body = reader
        .deserialize_map(BodyVisitor { names, refused: &mut refused })
        .and_then(|body| reader.end().map(|()| body));
    let [payload, target_url, idempotency_key] = body.map_err(|error| {
        let detail = format!("the body is not of the form {FORM}: {error}");
        let problem = Problem::malformed(detail);
        match refused {
            Some(field) => problem.field(field),
            None => problem,
        }
    })?;
    let payload = payload.map(RawValue::get).ok_or_else(|| {
        Problem::malformed("the field payload is missing; send any JSON value, null included")
            .field("payload")
    })?;
    if is_deeper(payload, DEPTH_MAX) {
        return Err(Problem::too_deep(DEPTH_MAX));
    }
    let text = |value: Option<&RawValue>, name: &'static str, what: &str| {
        let parsed = value.map_or(Ok(None), |value| serde_json::from_str(value.get()));
        parsed.map_err(|_| {
            let detail =
                format!("the field {name} is not a string or null; send {what} or omit it");
            Problem::malformed(detail).field(name)
        })
    };
    Ok(PostBody {
        payload,
        target_url: text(target_url, "target_url", "a URL")?,
        idempotency_key: text(idempotency_key, "idempotency_key", "a key")?,
    })
}

const FORM: &str = r#"{"payload": <any JSON>, "target_url": <optional URL>}"#;

/// Reads the fields with these names. Stores the name of an unknown or repeated field.
struct BodyVisitor<'a> {
    names: &'a [&'static str],
    refused: &'a mut Option<String>,
}

impl BodyVisitor<'_> {
    fn refuse<E: Error>(self, name: &str, reason: &str) -> E {
        let name: String = name.chars().take(FIELD_CHARS_MAX).collect();
        let error = E::custom(format_args!("{reason} field `{name}`"));
        *self.refused = Some(name);
        error
    }
}

impl<'de> Visitor<'de> for BodyVisitor<'_> {
    /// The values of payload, target URL and key.
    type Value = [Option<&'de RawValue>; 3];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = [None; 3];
        while let Some(Key(name)) = map.next_key()? {
            let Some(place) = self.names.iter().position(|known| *known == name) else {
                return Err(self.refuse(&name, "unknown"));
            };
            if values[place].replace(map.next_value::<&RawValue>()?).is_some() {
                return Err(self.refuse(&name, "duplicate"));
            }
        }
        Ok(values)
    }
}

/// Field name, borrowed unless the client wrote it with escapes.
#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

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
