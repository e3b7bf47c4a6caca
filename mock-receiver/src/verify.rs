//! Standard Webhooks 1.0.0 from the receiver's side: is this body signed by one of our secrets?
//!
//! Written afresh and on purpose apart from the dispatcher's signing, so that the two can disagree.
//! It compares in constant time, accepts a signature by any secret (rotation), and passes over
//! versions that it does not know. It must not answer, log or keep anything.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::journal::SignatureCheck;

/// How far a timestamp may lie from the receiver's clock, in seconds, inclusive.
pub const TIMESTAMP_TOLERANCE_SECONDS: i64 = 300;

/// Marks a secret whose key is given in base64.
const BASE64_PREFIX: &str = "whsec_";

/// The only signature version that is known here.
const KNOWN_VERSION: &[u8] = b"v1";

/// The secrets that may have signed a request: one, or several while a rotation is under way.
#[derive(Clone)]
pub struct Secrets {
    keys: Vec<Hmac<Sha256>>,
}

/// Why a text is not a list of secrets. It never shows the secret itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretsError {
    /// An entry of the list is empty.
    #[error("entry {position} of the comma-separated list is empty")]
    EmptyEntry {
        /// Its place in the list, from 1.
        position: usize,
    },
    /// An entry begins with `whsec_` but the rest is no base64 key.
    #[error("entry {position} begins with whsec_ but no padded base64 key follows")]
    InvalidBase64 {
        /// Its place in the list, from 1.
        position: usize,
    },
}

/// Why a signature is not valid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum InvalidReason {
    /// A header is absent or empty.
    #[error("the header {name} is missing")]
    MissingHeader {
        /// The header.
        name: String,
    },
    /// A header came more than once, so that two readers could see two values.
    #[error("the header {name} came more than once")]
    RepeatedHeader {
        /// The header.
        name: String,
    },
    /// The timestamp is no number of unix seconds.
    #[error("the timestamp is not a number of unix seconds")]
    MalformedTimestamp,
    /// The timestamp is too old or lies too far ahead.
    #[error("the timestamp is {seconds_off} s off")]
    TimestampOff {
        /// The sender's timestamp minus the receiver's clock.
        seconds_off: i64,
    },
    /// No entry has a version that is known here.
    #[error("no entry of a known version")]
    NoKnownVersion,
    /// No entry matches under any secret.
    #[error("no entry matches")]
    NoMatch,
}

/// The parts of a request that a signature covers, as they came.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// The header `webhook-id`.
    pub id: Option<&'a [u8]>,
    /// The header `webhook-timestamp`.
    pub timestamp: Option<&'a [u8]>,
    /// The header `webhook-signature`.
    pub signature: Option<&'a [u8]>,
    /// The exact body.
    pub body: &'a [u8],
}

impl Secrets {
    /// Reads the form of `WEBHOOK_SECRET`: `whsec_` and base64, or any other text as its UTF-8
    /// bytes; several separated by commas, with blanks round the commas trimmed.
    ///
    /// # Errors
    ///
    /// Names the first entry that is empty or no base64 after `whsec_`.
    pub fn parse(text: &str) -> Result<Self, SecretsError> {
        let keys = text.split(',').enumerate().map(|(index, entry)| {
            let position = index + 1;
            let entry = entry.trim();
            if entry.is_empty() {
                return Err(SecretsError::EmptyEntry { position });
            }
            let key = match entry.strip_prefix(BASE64_PREFIX) {
                Some(encoded) => BASE64
                    .decode(encoded)
                    .ok()
                    .filter(|key| !key.is_empty())
                    .ok_or(SecretsError::InvalidBase64 { position })?,
                None => entry.as_bytes().to_vec(),
            };
            Ok(Hmac::new_from_slice(&key).expect("HMAC takes a key of any length"))
        });
        Ok(Self {
            keys: keys.collect::<Result<_, _>>()?,
        })
    }

    /// Checks one request against the receiver's clock.
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
            let Some(encoded) = known_entry(entry) else {
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
        Err(if known == 0 {
            InvalidReason::NoKnownVersion
        } else {
            InvalidReason::NoMatch
        })
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

fn present<'a>(name: &str, value: Option<&'a [u8]>) -> Result<&'a [u8], InvalidReason> {
    value
        .filter(|value| !value.is_empty())
        .ok_or_else(|| InvalidReason::MissingHeader {
            name: name.to_owned(),
        })
}

/// Digits only: a sign or a blank would be a second spelling of the same signed text.
pub(crate) fn parse_timestamp(text: &[u8]) -> Option<i64> {
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn known_entry(entry: &[u8]) -> Option<&[u8]> {
    let comma = entry.iter().position(|byte| *byte == b',')?;
    (entry.get(..comma)? == KNOWN_VERSION)
        .then(|| entry.get(comma + 1..))
        .flatten()
}
