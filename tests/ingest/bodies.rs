//! Invalid bodies and headers: each gets its status and field, and nothing is stored.

use std::collections::BTreeSet;

use serde_json::json;

use super::{GOOD, TARGET, api, problem, stored};
use crate::support::app::id_of;

#[tokio::test]
async fn body_that_is_not_json_returns_400_and_stores_nothing() {
    let app = api(&[("TARGET_URL", TARGET)]).await;
    let utf16: Vec<u8> = GOOD.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let bodies: &[&[u8]] = &[
        b"",
        b" ",
        b"\n",
        b"payload",
        b"{",
        b"{\"payload\"",
        b"{\"payload\":",
        b"{\"payload\":}",
        b"{\"payload\":1",
        b"{\"payload\":1,}",
        b"{\"payload\":1}}",
        b"{\"payload\":1} {\"payload\":1}",
        b"{\"payload\":1}\0",
        b"{\"payload\":1}\x0c",
        b"\x0b{\"payload\":1}",
        b"\xc2\xa0{\"payload\":1}",
        b"\xef\xbb\xbf{\"payload\":1}",
        b"{\"payload\":\xef\xbb\xbf1}",
        b"{'payload':1}",
        b"{payload:1}",
        b"{\"payload\" 1}",
        b"{\"payload\":1 \"target_url\":null}",
        b"{\"payload\":1}//",
        b"{/**/\"payload\":1}",
        b"{\"payload\":NaN}",
        b"{\"payload\":Infinity}",
        b"{\"payload\":-}",
        b"{\"payload\":+1}",
        b"{\"payload\":01}",
        b"{\"payload\":-01}",
        b"{\"payload\":.5}",
        b"{\"payload\":1.}",
        b"{\"payload\":1e}",
        b"{\"payload\":1e+}",
        b"{\"payload\":0x10}",
        b"{\"payload\":1_000}",
        b"{\"payload\":True}",
        b"{\"payload\":nul}",
        b"{\"payload\":undefined}",
        b"{\"payload\":[1,]}",
        b"{\"payload\":[,1]}",
        b"{\"payload\":[1 2]}",
        b"{\"payload\":[1}",
        b"{\"payload\":{\"a\":1,}}",
        b"{\"payload\":{\"a\"}}",
        b"{\"payload\":{1:2}}",
        b"{\"payload\":\"}",
        b"{\"payload\":\"a\nb\"}",
        b"{\"payload\":\"a\0b\"}",
        b"{\"payload\":\"\\x41\"}",
        b"{\"payload\":\"\\u12\"}",
        b"{\"payload\":\"\\u12g4\"}",
        b"{\"payload\":\"\xff\"}",
        b"{\"payload\":\"\xc0\xaf\"}",
        b"{\"payload\":\"\xed\xa0\x80\"}",
        b"{\"payload\":\"\xf4\x90\x80\x80\"}",
        b"{\"payload\":{\"\xff\":1}}",
        b"{\"pay\xffload\":1}",
        &utf16,
    ];
    for body in bodies {
        let response = app.post(body.to_vec()).await;
        assert_eq!(response.status(), 400, "{}", body.escape_ascii());
        problem(response).await;
    }
    assert_eq!(stored(&app).await, 0);
    app.stop().await;
}

// A default target is set, so that only the shape of the body can be wrong.
#[tokio::test]
async fn body_of_wrong_shape_returns_400_with_the_field() {
    let app = api(&[("TARGET_URL", TARGET)]).await;
    let cases = [
        ("null", None),
        ("true", None),
        ("7", None),
        (r#""payload""#, None),
        ("[]", None),
        ("[1]", None),
        (r#"[1,"https://example.com"]"#, None),
        (r#"[{"payload":1}]"#, None),
        (r#"["payload",1]"#, None),
        ("{}", Some("payload")),
        (r#"{"target_url":"https://example.com"}"#, Some("payload")),
        (r#"{"payload":1,"target_url":1}"#, Some("target_url")),
        (r#"{"payload":1,"target_url":true}"#, Some("target_url")),
        (r#"{"payload":1,"target_url":[]}"#, Some("target_url")),
        (r#"{"payload":1,"target_url":["https://example.com"]}"#, Some("target_url")),
        (r#"{"payload":1,"target_url":{}}"#, Some("target_url")),
        (r#"{"payload":1,"target_url":"\ud800"}"#, Some("target_url")),
    ];
    for (body, field) in cases {
        let response = app.post(body).await;
        assert_eq!(response.status(), 400, "{body}");
        assert_eq!(problem(response).await["field"].as_str(), field, "{body}");
    }
    assert_eq!(stored(&app).await, 0);
    app.stop().await;
}

#[tokio::test]
async fn unknown_or_repeated_field_returns_400_with_its_name() {
    let app = api(&[("TARGET_URL", TARGET)]).await;
    let cases = [
        (r#"{"payload":1,"targetUrl":"https://example.com"}"#, "targetUrl"),
        (r#"{"payload":1,"target-url":"https://example.com"}"#, "target-url"),
        (r#"{"payload":1,"Target_URL":"https://example.com"}"#, "Target_URL"),
        (r#"{"payload":1,"url":null}"#, "url"),
        (r#"{"payload":1,"id":"a"}"#, "id"),
        (r#"{"Payload":1}"#, "Payload"),
        (r#"{"payload ":1}"#, "payload "),
        (r#"{"payload":1,"\n":1}"#, "\n"),
        (r#"{"payload":1,"payload":1}"#, "payload"),
        (r#"{"payload":1,"payl\u006fad":2}"#, "payload"),
        (r#"{"target_url":null,"payload":1,"target_url":null}"#, "target_url"),
        (r#"{"target_url":null,"payload":1,"target\u005furl":null}"#, "target_url"),
    ];
    for (body, named) in cases {
        let response = app.post(body).await;
        assert_eq!(response.status(), 400, "{body}");
        assert_eq!(problem(response).await["field"], named, "{body}");
    }
    assert_eq!(stored(&app).await, 0);
    app.stop().await;
}

#[tokio::test]
async fn payload_nesting_is_limited_to_128_levels() {
    let app = api(&[("TARGET_URL", TARGET)]).await;
    let nested = |open: &str, inner: &str, close: &str, times: usize| {
        format!(r#"{{"payload":{}{inner}{}}}"#, open.repeat(times), close.repeat(times))
    };
    let passes = [
        nested("[", "", "]", 128),
        nested("[", "1", "]", 128),
        nested(r#"{"a":"#, "{}", "}", 127),
        nested(r#"[{"a":"#, "0", "}]", 64),
        format!("{{\"payload\":[{}1]}}", "[],".repeat(10_000)),
        format!("{{\"payload\":\"{}\"}}", r#"[{\"\\"#.repeat(500)),
        format!("{{\"payload\":{{\"{}\":1}}}}", "[{".repeat(500)),
    ];
    for body in passes {
        assert_eq!(app.post(body.clone()).await.status(), 202, "{body:.60}");
    }
    let refused = [
        nested("[", "", "]", 129),
        nested(r#"{"a":"#, "{}", "}", 128),
        nested(r#"[{"a":"#, "[]", "}]", 64),
        nested("[", r#""]""#, "]", 129),
        nested("[", "", "]", 100_000),
        nested(r#"{"":"#, "1", "}", 100_000),
        format!("{{\"payload\":[1,2,{}{}]}}", "[".repeat(128), "]".repeat(128)),
    ];
    for body in refused {
        let response = app.post(body.clone()).await;
        assert_eq!(response.status(), 422, "{body:.60}");
        assert_eq!(problem(response).await["field"], "payload");
    }
    let broken = [
        format!("{{\"payload\":{}", "[".repeat(500_000)),
        "[".repeat(500_000),
        r#"{"a":"#.repeat(100_000),
        format!("{{\"payload\":1,\"target_url\":{}", "[".repeat(500_000)),
    ];
    for body in broken {
        assert_eq!(app.post(body.clone()).await.status(), 400, "{body:.60}");
    }
    assert_eq!(stored(&app).await, 7);
    app.stop().await;
}

#[tokio::test]
async fn only_application_json_is_accepted() {
    let app = api(&[]).await;
    let post = |kind: Option<&'static str>| {
        let mut request = app.client.post(app.url("/events")).body(GOOD);
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        async move { request.send().await.unwrap() }
    };
    let good = [
        "application/json",
        "APPLICATION/JSON",
        "application/json; charset=utf-8",
        "application/json;charset=\"utf-8\"",
        "application/json ;x=y",
    ];
    for kind in good {
        assert_eq!(post(Some(kind)).await.status(), 202, "{kind}");
    }
    let other = [
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/octet-stream",
        "application/jsonp",
        "application/json5",
        "application/x-ndjson",
        "application",
        "json",
        "*/*",
        "text/plain; application/json",
        "",
    ];
    for kind in other.into_iter().map(Some).chain([None]) {
        let response = post(kind).await;
        assert_eq!(response.status(), 415, "{kind:?}");
        problem(response).await;
    }
    assert_eq!(stored(&app).await, i64::try_from(good.len()).unwrap());
    app.stop().await;
}

#[tokio::test]
async fn idempotency_key_is_1_to_255_visible_ascii_characters() {
    let app = api(&[]).await;
    let longest = "k".repeat(255);
    let visible: String = ('!'..='~').collect();
    for (ordinal, key) in ["k", "0", "\"q\"", &visible, &longest].into_iter().enumerate() {
        let response = app.post_with(&[("idempotency-key", key)], GOOD).await;
        assert_eq!(response.status(), 202, "{ordinal}");
    }
    let too_long = "k".repeat(256);
    let huge = "k".repeat(8_000);
    for key in ["", "a b", "a\tb", "é", "k\u{a0}", "日本", &too_long, &huge] {
        let response = app.post_with(&[("idempotency-key", key)], GOOD).await;
        assert_eq!(response.status(), 400, "{key:.40}");
        assert_eq!(problem(response).await["field"], "Idempotency-Key", "{key:.40}");
    }
    let twice = [("idempotency-key", "a"), ("idempotency-key", "b")];
    assert_eq!(app.post_with(&twice, GOOD).await.status(), 400);
    assert_eq!(stored(&app).await, 5);
    app.stop().await;
}

#[tokio::test]
async fn posts_without_a_key_create_separate_events() {
    let app = api(&[]).await;
    let mut ids = BTreeSet::new();
    for _ in 0..20 {
        let response = app.post(json!({"payload": 1, "target_url": TARGET}).to_string()).await;
        assert_eq!(response.status(), 202);
        ids.insert(id_of(response).await);
    }
    assert_eq!((ids.len(), stored(&app).await), (20, 20));
    app.stop().await;
}

// A compressed body is not JSON. The response names the encoding instead of a syntax error.
#[tokio::test]
async fn encoded_body_returns_415() {
    let app = super::api(&[]).await;
    for (encoding, status) in
        [("gzip", 415), ("br", 415), ("identity, gzip", 415), ("identity", 202), ("Identity", 202)]
    {
        let response = app.post_with(&[("content-encoding", encoding)], super::GOOD).await;
        assert_eq!(response.status(), status, "{encoding}");
        if status == 415 {
            assert_eq!(super::problem(response).await["field"], "Content-Encoding");
        }
    }
    assert_eq!(super::stored(&app).await, 2);
    app.stop().await;
}
