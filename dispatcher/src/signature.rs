//! Standard Webhooks 1.0.0 signatures: computes the `webhook-signature` header from the id, the
//! timestamp and the exact bytes of the body. Pure.
//!
//! Source of the scheme:
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Prefix of a secret in base64.
const ENCODED_PREFIX: &str = "whsec_";

/// Signs with every secret, so that a receiver can change from one to the next without a failed
/// delivery.
#[derive(Clone)]
pub struct Signer {
    keys: Vec<Hmac<Sha256>>,
}

/// Reason why `WEBHOOK_SECRET` is invalid. `Display` completes the sentence "WEBHOOK_SECRET …".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The list or one of its entries is empty.
    #[error("has an empty entry: set one secret, or several separated by single commas")]
    Empty,
    /// The text after `whsec_` is not base64.
    #[error(
        "has an entry with whsec_ that is not base64: copy it completely, or remove whsec_ to use \
         plain text"
    )]
    NotBase64,
    /// The list or one of its entries is in quotes, which `docker --env-file` keeps.
    #[error("has an entry in quotes: remove the quotes")]
    Quoted,
    /// The text contains `whsec_` in another case, or not at its start.
    #[error("has an entry with whsec_ in another case or place: begin the entry with whsec_")]
    MisplacedPrefix,
    /// The text contains characters that a secret does not have on purpose.
    #[error("has an entry with a line break or another invisible character: remove it")]
    Invisible,
}

impl Signer {
    /// Parses `WEBHOOK_SECRET`: entries separated by commas, each `whsec_<base64>` or plain text.
    ///
    /// # Errors
    /// An entry is empty, is not valid base64, or is probably not the secret that was meant.
    pub fn parse(secrets: &str) -> Result<Self, SecretError> {
        if is_quoted(secrets.trim()) {
            return Err(SecretError::Quoted);
        }
        let keys = secrets.split(',').map(|entry| key(entry.trim()));
        Ok(Self { keys: keys.collect::<Result<_, _>>()? })
    }

    /// Returns the value of `webhook-signature`: one `v1,<base64>` entry per secret, separated by
    /// spaces.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let entries = self.keys.iter().map(|key| {
            let mut mac = key.clone();
            mac.update(id.as_bytes());
            mac.update(format!(".{timestamp}.").as_bytes());
            mac.update(body);
            format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
        });
        entries.collect::<Vec<_>>().join(" ")
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({} secrets)", self.keys.len())
    }
}

/// Returns true if the text stands in a pair of quotes.
pub(crate) fn is_quoted(text: &str) -> bool {
    let ends = [('"', '"'), ('\'', '\''), ('`', '`'), ('“', '”'), ('‘', '’')];
    let inner = |(open, close)| text.strip_prefix(open)?.strip_suffix(close);
    ends.into_iter().any(|ends| inner(ends).is_some())
}

fn key(entry: &str) -> Result<Hmac<Sha256>, SecretError> {
    if is_quoted(entry) {
        return Err(SecretError::Quoted);
    }
    if entry.contains(|c: char| c.is_control() || c == '\u{feff}') {
        return Err(SecretError::Invisible);
    }
    let folded = entry.to_ascii_lowercase();
    if folded.contains(ENCODED_PREFIX) && !entry.starts_with(ENCODED_PREFIX) {
        return Err(SecretError::MisplacedPrefix);
    }
    let bytes = match entry.strip_prefix(ENCODED_PREFIX) {
        Some(encoded) => STANDARD.decode(encoded).map_err(|_| SecretError::NotBase64)?,
        None => entry.as_bytes().to_vec(),
    };
    if bytes.is_empty() {
        return Err(SecretError::Empty);
    }
    Ok(Hmac::new_from_slice(&bytes).expect("HMAC accepts keys of any length"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    // The vectors come from the test suites of the Standard Webhooks libraries for Go and Rust.
    #[test]
    fn signatures_match_the_published_vectors() {
        let vectors = [
            (
                "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                1_614_265_330,
                r#"{"test": 2432232314}"#,
                "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            ),
            (
                "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
                "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
                1_649_367_553,
                r#"{"email":"test@example.com","username":"test_user"}"#,
                "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
            ),
        ];
        for (secret, id, timestamp, body, expected) in vectors {
            let signer = Signer::parse(secret).unwrap();
            assert_eq!(signer.sign(id, timestamp, body.as_bytes()), expected);
        }
    }

    #[test]
    fn every_secret_signs_and_spaces_are_ignored() {
        let both = Signer::parse("first , whsec_c2Vjb25k").unwrap().sign("id", 1, b"{}");
        let first = Signer::parse("first").unwrap().sign("id", 1, b"{}");
        let second = Signer::parse("second").unwrap().sign("id", 1, b"{}");
        assert_eq!(both, format!("{first} {second}"));
    }

    #[test]
    fn empty_or_malformed_secret_is_refused() {
        for text in ["", " ", "a,,b", "a,", "whsec_"] {
            assert_eq!(Signer::parse(text).unwrap_err(), SecretError::Empty, "{text:?}");
        }
        for text in ["whsec_###", "whsec_QUJDQQ", "whsec_whsec_QUJD", "whsec_QU JD"] {
            assert_eq!(Signer::parse(text).unwrap_err(), SecretError::NotBase64, "{text:?}");
        }
    }

    // Each of these would sign, and no receiver would accept the signature.
    #[test]
    fn secret_that_was_not_meant_is_refused() {
        use SecretError::{Invisible, MisplacedPrefix, Quoted};
        for (text, expected) in [
            ("\"s\"", Quoted),
            ("'s'\n", Quoted),
            ("\"a,b\"", Quoted),
            ("a, 'b'", Quoted),
            ("“s”", Quoted),
            ("\"\"", Quoted),
            ("WHSEC_QUJD", MisplacedPrefix),
            ("Whsec_QUJD", MisplacedPrefix),
            ("a,\"whsec_QUJD", MisplacedPrefix),
            ("WEBHOOK_SECRET=whsec_QUJD", MisplacedPrefix),
            ("a\nb", Invisible),
            ("\u{feff}a", Invisible),
        ] {
            assert_eq!(Signer::parse(text).unwrap_err(), expected, "{text:?}");
        }
        for text in ["it's", "\"", "a\"b\"c", "whsec", "with spaces and ü"] {
            assert!(Signer::parse(text).is_ok(), "{text:?}");
        }
    }

    proptest! {
        // An independent implementation accepts the signature, and refuses it if one byte differs.
        #[test]
        fn signature_is_valid_only_for_the_signed_body(
            body in "\\PC{0,200}",
            key in prop::collection::vec(any::<u8>(), 1..64),
            at in any::<prop::sample::Index>()
        ) {
            let secret = format!("whsec_{}", STANDARD.encode(&key));
            let timestamp = chrono::Utc::now().timestamp();
            let signature = Signer::parse(&secret).unwrap().sign("evt", timestamp, body.as_bytes());
            let headers = [
                ("webhook-id", "evt".to_owned()),
                ("webhook-timestamp", timestamp.to_string()),
                ("webhook-signature", signature),
            ];
            let oracle = standardwebhooks::Webhook::new(&secret).unwrap();
            let as_map = |headers: &[(&'static str, String)]| {
                let pairs = headers.iter().map(|(name, value)| {
                    (http_name(name), value.parse().expect("a header value"))
                });
                pairs.collect::<axum::http::HeaderMap>()
            };
            prop_assert!(oracle.verify(body.as_bytes(), &as_map(&headers)).is_ok());
            let mut tampered = body.into_bytes();
            if tampered.is_empty() {
                tampered.push(b'x');
            } else {
                let i = at.index(tampered.len());
                tampered[i] ^= 1;
            }
            prop_assert!(oracle.verify(&tampered, &as_map(&headers)).is_err());
        }
    }

    fn http_name(name: &'static str) -> axum::http::HeaderName {
        axum::http::HeaderName::from_static(name)
    }
}
