//! The head of a request: the few headers that matter here, taken out of what httparse finds.

use httparse::{Error, Status};

use super::HEAD_BYTES_MAX;
use super::body::Length;
use crate::journal::UncheckedReason;
use crate::peer::Peer;

/// How many headers a request may have.
const HEADERS_MAX: usize = 64;

/// What the receiver needs of a head.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    pub(crate) method: String,
    /// The path as it came, query included.
    pub(crate) path: String,
    pub(crate) keep_alive: bool,
    pub(crate) expects_continue: bool,
    pub(crate) id: Option<Vec<u8>>,
    pub(crate) timestamp: Option<Vec<u8>>,
    pub(crate) signature: Option<Vec<u8>>,
    pub(crate) attempt: Option<u32>,
    pub(crate) content_type: Option<String>,
    pub(crate) user_agent: Option<String>,
    /// The first of the three signature headers that came more than once.
    pub(crate) repeated: Option<&'static str>,
}

/// Reads and takes one head.
pub(super) async fn read(peer: &mut Peer) -> Result<(Head, Length), UncheckedReason> {
    loop {
        if let Some((size, head, length)) = parse(peer.ahead())? {
            peer.take(size);
            return Ok((head, length));
        }
        if peer.ahead().len() > HEAD_BYTES_MAX {
            return Err(UncheckedReason::HeadTooLarge);
        }
        peer.fill().await?;
    }
}

/// The size of the head and the head, or nothing when it is not whole yet.
fn parse(bytes: &[u8]) -> Result<Option<(usize, Head, Length)>, UncheckedReason> {
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
    Ok(Some((size, head, length)))
}

fn take_header(
    head: &mut Head,
    length: &mut Length,
    name: &str,
    value: &[u8],
) -> Result<(), UncheckedReason> {
    let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
    if is("webhook-id") {
        set_once(&mut head.id, &mut head.repeated, "webhook-id", value);
    } else if is("webhook-timestamp") {
        set_once(
            &mut head.timestamp,
            &mut head.repeated,
            "webhook-timestamp",
            value,
        );
    } else if is("webhook-signature") {
        set_once(
            &mut head.signature,
            &mut head.repeated,
            "webhook-signature",
            value,
        );
    } else if is("webhook-attempt") {
        head.attempt = std::str::from_utf8(value)
            .ok()
            .and_then(|text| text.parse().ok());
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
    value
        .split(|byte| *byte == b',')
        .any(|part| part.trim_ascii().eq_ignore_ascii_case(token))
}
