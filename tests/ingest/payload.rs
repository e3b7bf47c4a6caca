//! The payload is delivered byte for byte, including blanks.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::support::app::App;
use crate::support::fixture::Endpoint;

const DIGITS: &str = "31415926535897932384626433832795028841971693993751058209749445923078164062";

/// JSON texts that change if they are parsed and printed.
fn payloads() -> Vec<String> {
    let texts = [
        "null",
        "true",
        "false",
        "0",
        "-0",
        "-0.0",
        "1.0",
        "1.10",
        "1E5",
        "1e+05",
        "1e-999999",
        "1e999999",
        "9007199254740993",
        "18446744073709551616",
        "0.1000000000000000055511151231257827",
        r#""""#,
        r#""\u0041\/\b\f\n\r\t\"\\""#,
        r#""\u0000""#,
        r#""\ud83d\ude00 \uD800 \udc00""#,
        "\"é ü ß 日本語 😀 \u{2028}\u{2029}\u{feff}\u{fffe}\u{7f}\"",
        "\"e\u{301} \u{e9}\"",
        "[ ]",
        "{ }",
        "[\n\t1 ,\r\n 2 ]",
        r#"{"b":1,"a":2,"B":3}"#,
        r#"{"a":1,"a":2,"a":1}"#,
        r#"{"":0," ":1,"\u0061":2,"a":3}"#,
        r#"{"payload":{"target_url":"http://10.0.0.1/"},"target_url":7}"#,
        r#"{"a" : [ 1 , { "b" : null } ] }"#,
        "\"<script>&amp;'\"",
        "[[[[[[]]]]]]",
    ];
    let mut payloads: Vec<String> = texts.map(str::to_owned).into();
    payloads.push(format!("{DIGITS}.{DIGITS}e-{}", &DIGITS[..3]));
    payloads.push(DIGITS.repeat(50));
    payloads.push(format!("\"{}\"", "\u{10ffff}".repeat(20_000)));
    payloads.push(format!("[{}]", vec!["0"; 50_000].join(" ,\n")));
    payloads
}

#[tokio::test]
async fn payload_arrives_byte_for_byte() {
    let app = App::start(&[]).await;
    let endpoint = Endpoint::responding_with(200).await;
    let payloads = payloads();
    let mut expected = BTreeMap::new();
    for (ordinal, payload) in (0..).zip(&payloads) {
        // The members in either order, with blanks at every permitted place.
        let url = endpoint.url(ordinal);
        let body = if ordinal % 2 == 0 {
            format!("\r\n{{ \"payload\"\t: {payload}  ,\n\"target_url\":\"{url}\"}} ")
        } else {
            format!("{{\"target_url\" :\"{url}\",\"payl\\u006fad\":{payload}}}\t")
        };
        let response = app.post(body).await;
        assert_eq!(response.status(), 202, "{payload:.60}");
        let id = crate::support::app::id_of(response).await;
        expected.insert(id, hex::encode(Sha256::digest(payload)));
    }
    for id in expected.keys() {
        app.event_with_status(id, "delivered").await;
    }
    let receipts = endpoint.journal.receipts();
    let arrived: BTreeMap<_, _> = receipts
        .iter()
        .map(|receipt| (receipt.webhook_id.clone().unwrap(), receipt.sha256.clone()))
        .collect();
    assert_eq!((receipts.len(), arrived), (payloads.len(), expected));
    assert!(receipts.iter().all(|receipt| {
        receipt.signature.is_valid() && receipt.content_type.as_deref() == Some("application/json")
    }));
    app.stop().await;
}
