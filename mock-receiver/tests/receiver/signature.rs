//! Tests of signature verification against published vectors and another implementation.

use mock_receiver::verify::{Signed, TIMESTAMP_TOLERANCE_SECONDS};
use mock_receiver::{InvalidReason, Secrets, SecretsError, SignatureCheck};
use proptest::prelude::*;

use crate::client::sign;

struct Vector {
    secret: &'static str,
    id: &'static str,
    timestamp: i64,
    body: &'static str,
    signature: &'static str,
}

/// Vectors from the test suites of the Standard Webhooks libraries.
const VECTORS: [Vector; 2] = [
    Vector {
        secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        id: "msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp: 1_614_265_330,
        body: r#"{"test": 2432232314}"#,
        signature: "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    },
    Vector {
        secret: "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
        id: "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
        timestamp: 1_649_367_553,
        body: r#"{"email":"test@example.com","username":"test_user"}"#,
        signature: "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
    },
];

/// The parts of a signed request. A test changes one at a time.
#[derive(Clone, Debug)]
struct Pieces {
    id: Option<Vec<u8>>,
    timestamp: Option<Vec<u8>>,
    signature: Option<Vec<u8>>,
    body: Vec<u8>,
}

impl Pieces {
    fn of(vector: &Vector) -> Self {
        Self::new(vector.id, vector.timestamp, vector.signature, vector.body.as_bytes())
    }

    fn new(id: &str, timestamp: i64, signature: &str, body: &[u8]) -> Self {
        Self {
            id: Some(id.into()),
            timestamp: Some(timestamp.to_string().into_bytes()),
            signature: Some(signature.into()),
            body: body.to_vec(),
        }
    }

    fn check(&self, secrets: &str, now: i64) -> SignatureCheck {
        let signed = Signed {
            id: self.id.as_deref(),
            timestamp: self.timestamp.as_deref(),
            signature: self.signature.as_deref(),
            body: &self.body,
        };
        Secrets::parse(secrets).unwrap().check(signed, now)
    }
}

fn invalid(reason: InvalidReason) -> SignatureCheck {
    SignatureCheck::Invalid { reason }
}

#[test]
fn published_vectors_are_valid() {
    for vector in &VECTORS {
        let pieces = Pieces::of(vector);
        assert_eq!(pieces.check(vector.secret, vector.timestamp), SignatureCheck::Valid);
    }
}

#[test]
fn timestamp_tolerance_is_inclusive_on_both_sides() {
    let vector = &VECTORS[0];
    let pieces = Pieces::of(vector);
    for off in [-TIMESTAMP_TOLERANCE_SECONDS, TIMESTAMP_TOLERANCE_SECONDS] {
        let check = pieces.check(vector.secret, vector.timestamp - off);
        assert_eq!(check, SignatureCheck::Valid);
        let seconds_off = off + off.signum();
        let check = pieces.check(vector.secret, vector.timestamp - seconds_off);
        assert_eq!(check, invalid(InvalidReason::TimestampOff { seconds_off }));
    }
}

#[test]
fn text_secret_is_its_bytes_and_any_listed_secret_counts() {
    let signature = sign("grün".as_bytes(), "id", 7, b"{}");
    let pieces = Pieces::new("id", 7, &signature, b"{}");
    for secrets in ["grün", "old, grün", " grün ,whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"] {
        assert_eq!(pieces.check(secrets, 7), SignatureCheck::Valid, "{secrets}");
    }
    assert_eq!(pieces.check("old,new", 7), invalid(InvalidReason::NoMatch));
}

#[test]
fn invalid_entry_is_refused_without_showing_the_secret() {
    let empty = |position| Err(SecretsError::EmptyEntry { position });
    let unreadable = |position| Err(SecretsError::InvalidBase64 { position });
    for (text, refusal) in [
        ("", empty(1)),
        ("a,,b", empty(2)),
        ("a, ", empty(2)),
        ("whsec_", unreadable(1)),
        ("a,whsec_!!!!", unreadable(2)),
        ("whsec_MfKQ9r8", unreadable(1)),
        ("\"a,b\"", Err(SecretsError::Quoted { position: 1 })),
        ("a,'b'", Err(SecretsError::Quoted { position: 2 })),
        ("a,WHSEC_YQ==", Err(SecretsError::MisplacedPrefix { position: 2 })),
    ] {
        assert_eq!(Secrets::parse(text).map(|_| ()), refusal, "{text}");
    }
    let secrets = Secrets::parse("hush,whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    assert_eq!(format!("{secrets:?}"), "Secrets(2 hidden)");
}

#[test]
fn unknown_versions_are_ignored() {
    let vector = &VECTORS[0];
    let good = vector.signature;
    for (signature, check) in [
        (format!("v2,AAAA {good}"), SignatureCheck::Valid),
        (format!("{good} v1a,AAAA"), SignatureCheck::Valid),
        (format!("v1,AAAA  {good}"), SignatureCheck::Valid),
        (good.replace("v1,", "v2,"), invalid(InvalidReason::NoKnownVersion)),
        (good.replace("v1,", ""), invalid(InvalidReason::NoKnownVersion)),
        ("v1,".to_owned(), invalid(InvalidReason::NoMatch)),
        ("v1,not base64".to_owned(), invalid(InvalidReason::NoMatch)),
    ] {
        let mut pieces = Pieces::of(vector);
        pieces.signature = Some(signature.clone().into_bytes());
        assert_eq!(pieces.check(vector.secret, vector.timestamp), check, "{signature}");
    }
}

#[test]
fn each_of_the_three_headers_is_required() {
    let vector = &VECTORS[0];
    for value in [None, Some(Vec::new())] {
        let without = |change: fn(&mut Pieces, Option<Vec<u8>>)| {
            let mut pieces = Pieces::of(vector);
            change(&mut pieces, value.clone());
            pieces.check(vector.secret, vector.timestamp)
        };
        let missing = |name: &str| invalid(InvalidReason::MissingHeader { name: name.into() });
        assert_eq!(without(|pieces, value| pieces.id = value), missing("webhook-id"));
        let check = without(|pieces, value| pieces.timestamp = value);
        assert_eq!(check, missing("webhook-timestamp"));
        let check = without(|pieces, value| pieces.signature = value);
        assert_eq!(check, missing("webhook-signature"));
    }
}

#[test]
fn timestamp_consists_only_of_digits() {
    let vector = &VECTORS[0];
    for text in
        ["+1614265330", "-1614265330", " 1614265330", "1614265330.0", "99999999999999999999"]
    {
        let mut pieces = Pieces::of(vector);
        pieces.timestamp = Some(text.into());
        let check = pieces.check(vector.secret, vector.timestamp);
        assert_eq!(check, invalid(InvalidReason::MalformedTimestamp), "{text}");
    }
}

proptest! {
    #[test]
    fn signature_of_another_implementation_is_valid(
        key in proptest::collection::vec(33_u8..127, 1..80),
        id in "[!-~]{1,64}",
        timestamp in 0_i64..4_000_000_000,
        body in ".{0,200}",
    ) {
        let secret = String::from_utf8(key.clone()).unwrap();
        prop_assume!(!secret.contains(',') && Secrets::parse(&secret).is_ok());
        let signature = sign(&key, &id, timestamp, body.as_bytes());
        let pieces = Pieces::new(&id, timestamp, &signature, body.as_bytes());
        prop_assert_eq!(pieces.check(&secret, timestamp), SignatureCheck::Valid);
    }

    #[test]
    fn one_changed_byte_makes_the_signature_invalid(
        piece in 0_usize..4,
        at in any::<prop::sample::Index>(),
        change in 1_u8..=255,
    ) {
        let vector = &VECTORS[1];
        let mut pieces = Pieces::of(vector);
        let bytes = match piece {
            0 => pieces.id.as_mut().unwrap(),
            1 => pieces.timestamp.as_mut().unwrap(),
            2 => pieces.signature.as_mut().unwrap(),
            _ => &mut pieces.body,
        };
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        prop_assert!(!pieces.check(vector.secret, vector.timestamp).is_valid());
    }

    #[test]
    fn arbitrary_header_bytes_cause_no_panic(
        id in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40)),
        timestamp in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..25)),
        signature in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..80)),
        now in any::<i64>(),
    ) {
        let pieces = Pieces { id, timestamp, signature, body: Vec::new() };
        prop_assert!(!pieces.check("key", now).is_valid());
    }
}
