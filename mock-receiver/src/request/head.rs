//! Reads the head of a request and extracts the headers that the receiver uses.

use httparse::{Error, Status};

use crate::check::UncheckedReason;
use crate::peer::Peer;

/// Maximum size of a head, of a chunk line and of all trailers.
pub(super) const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Maximum number of headers of a request.
const HEADERS_MAX: usize = 64;

/// The used parts of a head.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    pub(crate) method: String,
    /// Path and query as received.
    pub(crate) path: String,
    pub(crate) keep_alive: bool,
    pub(crate) expects_continue: bool,
    pub(crate) id: Option<Vec<u8>>,
    pub(crate) timestamp: Option<Vec<u8>>,
    pub(crate) signature: Option<Vec<u8>>,
    pub(crate) attempt: Option<u32>,
    pub(crate) content_type: Option<String>,
    pub(crate) user_agent: Option<String>,
    /// The first of the three signature headers that is present more than once.
    pub(crate) repeated: Option<&'static str>,
}

/// A head and the length of the body that follows it.
pub(super) struct ParsedHead {
    pub(super) head: Head,
    pub(super) length: Length,
    /// Size of the head in bytes.
    bytes: usize,
}

/// Length of a body by its headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    None,
    Bytes(u64),
    Chunked,
}

impl Length {
    /// Sets the value of a `Content-Length`. Two different values, or one beside chunks, are
    /// malformed, because two readers could see two different bodies.
    fn set_content_length(&mut self, value: &[u8]) -> Result<(), UncheckedReason> {
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return Err(UncheckedReason::Malformed);
        }
        let bytes = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        // A number that exceeds 64 bits is well-formed and larger than every limit.
        let length = Self::Bytes(bytes.unwrap_or(u64::MAX));
        if *self != Self::None && *self != length {
            return Err(UncheckedReason::Malformed);
        }
        *self = length;
        Ok(())
    }

    /// Sets the value of a `Transfer-Encoding`. Only `chunked` is supported.
    fn set_transfer_encoding(&mut self, value: &[u8]) -> Result<(), UncheckedReason> {
        if *self != Self::None || !value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
            return Err(UncheckedReason::Malformed);
        }
        *self = Self::Chunked;
        Ok(())
    }
}

/// Reads one head and removes it from the received bytes.
pub(super) async fn read(peer: &mut Peer) -> Result<ParsedHead, UncheckedReason> {
    loop {
        if let Some(parsed) = parse(peer.ahead())? {
            peer.take(parsed.bytes);
            return Ok(parsed);
        }
        if peer.ahead().len() > HEAD_BYTES_MAX {
            return Err(UncheckedReason::HeadTooLarge);
        }
        peer.fill().await?;
    }
}

/// Parses a head. Returns `None` if it is incomplete.
fn parse(bytes: &[u8]) -> Result<Option<ParsedHead>, UncheckedReason> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    let size = match parsed.parse(bytes) {
        Ok(Status::Complete(size)) if size > HEAD_BYTES_MAX => {
            return Err(UncheckedReason::HeadTooLarge);
        }
        Ok(Status::Complete(size)) => size,
        Ok(Status::Partial) => return Ok(None),
        Err(Error::TooManyHeaders) => return Err(UncheckedReason::HeadTooLarge),
        Err(_) => return Err(UncheckedReason::Malformed),
    };
    let mut head = Head {
        method: parsed.method.unwrap_or_default().to_owned(),
        path: parsed.path.unwrap_or_default().to_owned(),
        keep_alive: parsed.version == Some(1),
        ..Head::default()
    };
    let mut length = Length::None;
    for header in parsed.headers.iter() {
        take_header(&mut head, &mut length, header.name, header.value)?;
    }
    Ok(Some(ParsedHead { head, length, bytes: size }))
}

fn take_header(
    head: &mut Head,
    length: &mut Length,
    name: &str,
    value: &[u8],
) -> Result<(), UncheckedReason> {
    let is = |expected: &str| name.eq_ignore_ascii_case(expected);
    if is("webhook-id") {
        set_once(&mut head.id, &mut head.repeated, "webhook-id", value);
    } else if is("webhook-timestamp") {
        set_once(&mut head.timestamp, &mut head.repeated, "webhook-timestamp", value);
    } else if is("webhook-signature") {
        set_once(&mut head.signature, &mut head.repeated, "webhook-signature", value);
    } else if is("webhook-attempt") {
        head.attempt = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    } else if is("content-type") {
        head.content_type = Some(String::from_utf8_lossy(value).into_owned());
    } else if is("user-agent") {
        head.user_agent = Some(String::from_utf8_lossy(value).into_owned());
    } else if is("content-length") {
        length.set_content_length(value)?;
    } else if is("transfer-encoding") {
        length.set_transfer_encoding(value)?;
    } else if is("expect") {
        head.expects_continue = value.eq_ignore_ascii_case(b"100-continue");
    } else if is("connection") {
        if has_token(value, b"close") {
            head.keep_alive = false;
        } else if has_token(value, b"keep-alive") {
            head.keep_alive = true;
        }
    }
    Ok(())
}

fn set_once(
    slot: &mut Option<Vec<u8>>,
    repeated: &mut Option<&'static str>,
    name: &'static str,
    value: &[u8],
) {
    if slot.is_some() {
        repeated.get_or_insert(name);
    } else {
        *slot = Some(value.to_vec());
    }
}

fn has_token(value: &[u8], token: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(token))
}
