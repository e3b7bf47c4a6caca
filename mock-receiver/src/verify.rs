//! Verification of signatures by Standard Webhooks 1.0.0, from the receiver's side.
//!
//! It shares no code with the dispatcher's signing, so that a mistake there is detected here. It
//! compares in constant time, accepts a signature by any secret (rotation), and ignores unknown
//! versions. It must not respond, log or store anything.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::check::{InvalidReason, SignatureCheck};

/// Maximum difference between a timestamp and the receiver's clock, in seconds, inclusive.
pub const TIMESTAMP_TOLERANCE_SECONDS: i64 = 300;

/// Prefix of a secret whose key is encoded in base64.
const BASE64_PREFIX: &str = "whsec_";

/// The signature version that is verified. Entries with other versions are ignored.
const KNOWN_VERSION: &[u8] = b"v1";

/// The accepted secrets: one, or several during a rotation.
#[derive(Clone)]
pub struct Secrets {
    keys: Vec<Hmac<Sha256>>,
}

/// The text is not a list of secrets. The message never contains a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretsError {
    /// An entry of the list is empty.
    #[error("entry {position} of the comma-separated list is empty")]
    EmptyEntry {
        /// Position in the list, from 1.
        position: usize,
    },
    /// An entry is in quotes, which `docker --env-file` keeps.
    #[error("entry {position} is in quotes")]
    Quoted {
        /// Position in the list, from 1.
        position: usize,
    },
    /// An entry contains `whsec_` in another case, or not at its start.
    #[error("entry {position} has whsec_ in another case or place")]
    MisplacedPrefix {
        /// Position in the list, from 1.
        position: usize,
    },
    /// An entry begins with `whsec_`, and the rest is not a base64 key.
    #[error("entry {position} has no padded base64 key after whsec_")]
    InvalidBase64 {
        /// Position in the list, from 1.
        position: usize,
    },
}

/// The signed parts of a request as received, and the signature.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// Value of the header `webhook-id`.
    pub id: Option<&'a [u8]>,
    /// Value of the header `webhook-timestamp`.
    pub timestamp: Option<&'a [u8]>,
    /// Value of the header `webhook-signature`.
    pub signature: Option<&'a [u8]>,
    /// The body, byte for byte.
    pub body: &'a [u8],
}

impl Secrets {
    /// Parses the value of `WEBHOOK_SECRET`: secrets separated by commas, without the spaces around
    /// them. After `whsec_` a secret is base64; otherwise its key is its UTF-8 bytes.
    ///
    /// # Errors
    ///
    /// If an entry is empty, is not base64 after `whsec_`, or is probably not the secret that was
    /// meant.
    pub fn parse(text: &str) -> Result<Self, SecretsError> {
        if is_quoted(text.trim()) {
            return Err(SecretsError::Quoted { position: 1 });
        }
        let keys = text.split(',').enumerate().map(|(index, entry)| {
            let position = index + 1;
            let entry = entry.trim();
            if entry.is_empty() {
                return Err(SecretsError::EmptyEntry { position });
            }
            if is_quoted(entry) {
                return Err(SecretsError::Quoted { position });
            }
            let has_prefix = entry.to_ascii_lowercase().contains(BASE64_PREFIX);
            if has_prefix && !entry.starts_with(BASE64_PREFIX) {
                return Err(SecretsError::MisplacedPrefix { position });
            }
            let key = match entry.strip_prefix(BASE64_PREFIX) {
                Some(encoded) => BASE64
                    .decode(encoded)
                    .ok()
                    .filter(|key| !key.is_empty())
                    .ok_or(SecretsError::InvalidBase64 { position })?,
                None => entry.as_bytes().to_vec(),
            };
            Ok(Hmac::new_from_slice(&key).expect("HMAC accepts a key of any length"))
        });
        Ok(Self { keys: keys.collect::<Result<_, _>>()? })
    }

    /// Checks the signature of one request, and its timestamp against `now_unix_seconds`.
    pub fn check(&self, signed: Signed<'_>, now_unix_seconds: i64) -> SignatureCheck {
        match self.verify(signed, now_unix_seconds) {
            Ok(()) => SignatureCheck::Valid,
            Err(reason) => SignatureCheck::Invalid { reason },
        }
    }

    fn verify(&self, signed: Signed<'_>, now_unix_seconds: i64) -> Result<(), InvalidReason> {
        let id = present("webhook-id", signed.id)?;
        let timestamp = present("webhook-timestamp", signed.timestamp)?;
        let signature = present("webhook-signature", signed.signature)?;
        let sent = parse_timestamp(timestamp).ok_or(InvalidReason::MalformedTimestamp)?;
        let seconds_off = sent.saturating_sub(now_unix_seconds);
        if seconds_off.saturating_abs() > TIMESTAMP_TOLERANCE_SECONDS {
            return Err(InvalidReason::TimestampOff { seconds_off });
        }
        let mut known = 0_usize;
        for entry in signature.split(|byte| *byte == b' ') {
            let Some(encoded) = encoded_signature(entry) else {
                continue;
            };
            known += 1;
            let Ok(claimed) = BASE64.decode(encoded) else {
                continue;
            };
            if self.matches(id, timestamp, signed.body, &claimed) {
                return Ok(());
            }
        }
        Err(if known == 0 { InvalidReason::NoKnownVersion } else { InvalidReason::NoMatch })
    }

    fn matches(&self, id: &[u8], timestamp: &[u8], body: &[u8], claimed: &[u8]) -> bool {
        self.keys.iter().any(|key| {
            let mut mac = key.clone();
            for part in [id, b".".as_slice(), timestamp, b".".as_slice(), body] {
                mac.update(part);
            }
            mac.verify_slice(claimed).is_ok()
        })
    }
}

impl FromStr for Secrets {
    type Err = SecretsError;

    fn from_str(text: &str) -> Result<Self, SecretsError> {
        Self::parse(text)
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Secrets({} hidden)", self.keys.len())
    }
}

/// Returns true if the text stands in a pair of quotes.
fn is_quoted(text: &str) -> bool {
    let ends = [('"', '"'), ('\'', '\''), ('`', '`'), ('“', '”'), ('‘', '’')];
    let inner = |(open, close)| text.strip_prefix(open)?.strip_suffix(close);
    ends.into_iter().any(|ends| inner(ends).is_some())
}

fn present<'a>(name: &str, value: Option<&'a [u8]>) -> Result<&'a [u8], InvalidReason> {
    value
        .filter(|value| !value.is_empty())
        .ok_or_else(|| InvalidReason::MissingHeader { name: name.to_owned() })
}

/// Parses a timestamp that consists only of digits. A sign or a space would be a second spelling of
/// the same time.
pub(crate) fn parse_timestamp(text: &[u8]) -> Option<i64> {
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Returns the base64 part of an entry such as `v1,c2ln`, or `None` if the version is unknown.
fn encoded_signature(entry: &[u8]) -> Option<&[u8]> {
    let comma = entry.iter().position(|byte| *byte == b',')?;
    (entry.get(..comma)? == KNOWN_VERSION).then(|| entry.get(comma + 1..)).flatten()
}
