//! Standard Webhooks 1.0.0 signatures: id + timestamp + the exact bytes -> the `webhook-signature` header.
//!
//! Pure. Source of the scheme: <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// What marks a secret that is given in base64.
const ENCODED_PREFIX: &str = "whsec_";

/// Signs with every valid secret, so that receivers can change from one to the next at their leisure.
#[derive(Clone)]
pub struct Signer {
    keys: Vec<Hmac<Sha256>>,
}

/// Why a `WEBHOOK_SECRET` cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Nothing between two commas, or nothing at all.
    #[error("has an empty entry; write one secret, or several separated by single commas")]
    Empty,
    /// Not base64 after `whsec_`.
    #[error(
        "has a `whsec_` entry that is not base64; copy it whole, or drop the prefix to use plain text"
    )]
    NotBase64,
}

impl Signer {
    /// Reads `WEBHOOK_SECRET`: `whsec_<base64>` or plain text, several separated by commas.
    ///
    /// # Errors
    /// An empty entry, or one that says base64 and is not.
    pub fn parse(secrets: &str) -> Result<Self, SecretError> {
        let keys = secrets.split(',').map(|entry| key(entry.trim()));
        Ok(Self {
            keys: keys.collect::<Result<_, _>>()?,
        })
    }

    /// The value of `webhook-signature`: one `v1,<base64>` entry a secret, separated by spaces.
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

fn key(entry: &str) -> Result<Hmac<Sha256>, SecretError> {
    let bytes = match entry.strip_prefix(ENCODED_PREFIX) {
        Some(encoded) => STANDARD
            .decode(encoded)
            .map_err(|_| SecretError::NotBase64)?,
        None => entry.as_bytes().to_vec(),
    };
    if bytes.is_empty() {
        return Err(SecretError::Empty);
    }
    Ok(Hmac::new_from_slice(&bytes).expect("HMAC takes a key of any length"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    // The vectors are those of the Standard Webhooks libraries' own test suites (Go and Rust).
    #[test]
    fn the_published_vectors_hold() {
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
    fn every_secret_signs_and_blanks_round_commas_do_not_count() {
        let both = Signer::parse("first , whsec_c2Vjb25k")
            .unwrap()
            .sign("id", 1, b"{}");
        let first = Signer::parse("first").unwrap().sign("id", 1, b"{}");
        let second = Signer::parse("second").unwrap().sign("id", 1, b"{}");
        assert_eq!(both, format!("{first} {second}"));
    }

    #[test]
    fn a_secret_that_cannot_be_used_is_refused() {
        for text in ["", " ", "a,,b", "a,", "whsec_"] {
            assert_eq!(
                Signer::parse(text).unwrap_err(),
                SecretError::Empty,
                "{text:?}"
            );
        }
        assert_eq!(
            Signer::parse("whsec_###").unwrap_err(),
            SecretError::NotBase64
        );
    }

    proptest! {
        // An independent implementation accepts what we sign, and refuses it once one byte is changed.
        #[test]
        fn a_signature_verifies_until_the_body_is_tampered_with(
            body in "\\PC{0,200}", key in prop::collection::vec(any::<u8>(), 1..64), at in any::<prop::sample::Index>()
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
            if tampered.is_empty() { tampered.push(b'x') } else { let i = at.index(tampered.len()); tampered[i] ^= 1 }
            prop_assert!(oracle.verify(&tampered, &as_map(&headers)).is_err());
        }
    }

    fn http_name(name: &'static str) -> axum::http::HeaderName {
        axum::http::HeaderName::from_static(name)
    }
}
