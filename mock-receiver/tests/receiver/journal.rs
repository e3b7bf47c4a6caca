//! Tests of the journal: contents, order and observers.

use std::sync::{Arc, Mutex};

use mock_receiver::script::always;
use mock_receiver::{
    Behavior, Ending, InvalidReason, Journal, Moment, Receipt, SignatureCheck, UncheckedReason,
};

use crate::client::{Server, signed, signed_head};

/// Sends one request, asserts the status of the response, and returns the receipt.
async fn receipt_of(request: &[u8], status: u16) -> Receipt {
    let server = Server::always(Behavior::answer(200)).await;
    let mut client = server.connect().await;
    client.send(request).await;
    assert_eq!(client.response().await.0, status);
    let receipt = server.receipts(1).await.remove(0);
    assert_eq!(receipt.ending, Some(Ending::Answered { status }));
    receipt
}

#[tokio::test]
async fn receipt_contains_the_parts_of_the_request() {
    let receipt = receipt_of(&signed("/webhook/17?q", "e17", 3, b"{\"a\": 1.0}"), 200).await;
    assert_eq!(receipt.seq, 1);
    assert_eq!(receipt.ordinal, Some(17));
    assert_eq!(receipt.path, "/webhook/17?q");
    assert_eq!(receipt.webhook_id.as_deref(), Some("e17"));
    assert_eq!((receipt.attempt, receipt.arrival), (Some(3), 1));
    assert!(receipt.webhook_timestamp.is_some());
    // Computed with sha256sum.
    let sha256 = "742609b207f0900a8e2dff3ae83ac47941af5c29bb6ebfb297f4ca7dd63d8354";
    assert_eq!((receipt.sha256.as_str(), receipt.bytes), (sha256, 10));
    assert_eq!(receipt.content_type.as_deref(), Some("application/json"));
    assert_eq!(receipt.behavior, Some(Behavior::answer(200)));
    assert!(receipt.head_us <= receipt.begin_us && receipt.begin_us <= receipt.end_us.unwrap());
    assert!(receipt.is_accepted());
}

#[tokio::test]
async fn invalid_signature_gets_401_and_does_not_count() {
    let good = String::from_utf8(signed("/webhook/1", "e1", 1, b"{}")).unwrap();
    let missing = |name: &str| InvalidReason::MissingHeader { name: name.into() };
    let repeated = InvalidReason::RepeatedHeader { name: "webhook-id".into() };
    for (request, reason) in [
        (good.replace("webhook-id: e1", "webhook-id: e2"), InvalidReason::NoMatch),
        (good.replace("\r\n\r\n{}", "\r\n\r\n[]"), InvalidReason::NoMatch),
        (good.replace("webhook-id: e1\r\n", ""), missing("webhook-id")),
        (good.replace("webhook-signature", "x"), missing("webhook-signature")),
        (good.replace("host: test", "webhook-id: e1"), repeated),
        (good.replace("v1,", "v9,"), InvalidReason::NoKnownVersion),
    ] {
        let receipt = receipt_of(request.as_bytes(), 401).await;
        assert_eq!(receipt.signature, SignatureCheck::Invalid { reason });
        assert_eq!((receipt.behavior.as_ref(), receipt.arrival), (None, 0));
        assert!(!receipt.is_accepted());
    }
}

#[tokio::test]
async fn malformed_request_is_refused_and_journalled() {
    let head = |lines: &str| signed_head("/webhook/1", "e1", 1, b"{}", lines);
    let long_line = format!("x: {}\r\n", "x".repeat(20_000));
    let many_lines = "x: y\r\n".repeat(100);
    for (request, status, reason) in [
        (head("content-length: 4194305\r\n"), 413, UncheckedReason::BodyTooLarge),
        (head("content-length: 99999999999999999999999\r\n"), 413, UncheckedReason::BodyTooLarge),
        (head("content-length: -1\r\n"), 400, UncheckedReason::Malformed),
        (head("content-length: 1\r\ncontent-length: 2\r\n"), 400, UncheckedReason::Malformed),
        (
            head("content-length: 1\r\ntransfer-encoding: chunked\r\n"),
            400,
            UncheckedReason::Malformed,
        ),
        (head("transfer-encoding: gzip\r\n"), 400, UncheckedReason::Malformed),
        (head(&long_line), 431, UncheckedReason::HeadTooLarge),
        (head(&many_lines), 431, UncheckedReason::HeadTooLarge),
        (b"this is no http\r\n\r\n".to_vec(), 400, UncheckedReason::Malformed),
        (b"\0\0\0\0".to_vec(), 400, UncheckedReason::Malformed),
    ] {
        let receipt = receipt_of(&request, status).await;
        assert_eq!(receipt.signature, SignatureCheck::Unchecked { reason });
        assert_eq!(receipt.behavior, None);
        assert!(!receipt.is_accepted());
    }
}

#[tokio::test]
async fn chunked_body_that_is_too_large_or_malformed_is_refused() {
    for (framed, status) in [
        ("ffffffff\r\n", 413),
        ("ffffffffffffffff\r\n", 413),
        ("x\r\n", 400),
        ("2\r\n{}x\r\n", 400),
    ] {
        let lines = "transfer-encoding: chunked\r\n";
        let mut request = signed_head("/webhook/1", "e1", 1, b"{}", lines);
        request.extend_from_slice(framed.as_bytes());
        receipt_of(&request, status).await;
    }
}

/// A sender that is killed during a request leaves such a receipt. It must not count as a signing
/// fault.
#[tokio::test]
async fn incomplete_request_is_unchecked_and_not_invalid() {
    let request = signed("/webhook/1", "e1", 1, b"{\"a\":1}");
    for sent in [request.len() - 1, request.len() - 7, 40, 1] {
        let server = Server::always(Behavior::answer(200)).await;
        let mut client = server.connect().await;
        client.send(&request[..sent]).await;
        drop(client);
        let receipt = server.receipts(1).await.remove(0);
        let reason = UncheckedReason::BrokenOff;
        assert_eq!(receipt.signature, SignatureCheck::Unchecked { reason });
        assert_eq!(receipt.ending, Some(Ending::PeerClosed));
    }
}

#[tokio::test]
async fn receivers_that_share_a_journal_share_its_order() {
    let journal = Journal::new();
    let one = Server::start(always(Behavior::answer(200)), journal.clone()).await;
    let other = Server::start(always(Behavior::answer(500)), journal.clone()).await;
    for server in [&one, &other, &one] {
        let mut client = server.connect().await;
        client.send(&signed("/webhook/1", "e1", 1, b"{}")).await;
        client.response().await;
    }
    let receipts = one.receipts(3).await;
    let seen: Vec<_> = receipts.iter().map(|receipt| (receipt.seq, receipt.receiver)).collect();
    let [one, other] = [one, other].map(|server| server.receiver.address());
    assert_eq!(seen, [(1, one), (2, other), (3, one)]);
    let begins: Vec<_> = receipts.iter().map(|receipt| receipt.begin_us).collect();
    assert!(begins.is_sorted());
}

#[tokio::test]
async fn observer_is_called_at_begin_and_end() {
    let journal = Journal::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    journal.observe(Arc::new(move |receipt: &Receipt, moment: Moment| {
        noted.lock().unwrap().push((receipt.seq, moment, receipt.ending.clone()));
    }));
    let server = Server::start(always(Behavior::answer(204)), journal).await;
    let mut client = server.connect().await;
    client.send(&signed("/webhook/1", "e1", 1, b"{}")).await;
    client.response().await;
    server.receipts(1).await;
    let answered = Some(Ending::Answered { status: 204 });
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen, [(1, Moment::Begin, None), (1, Moment::End, answered)]);
}

#[tokio::test]
async fn bounded_journal_drops_its_oldest_and_counts_them() {
    let server = Server::start(always(Behavior::answer(200)), Journal::bounded(3)).await;
    let mut client = server.connect().await;
    for ordinal in 1..=5 {
        client.send(&signed(&format!("/webhook/{ordinal}"), "e", 1, b"{}")).await;
        client.response().await;
    }
    let seqs = |receipts: Vec<Receipt>| receipts.iter().map(|kept| kept.seq).collect::<Vec<_>>();
    assert_eq!(seqs(server.receipts(5).await), [3, 4, 5]);
    assert_eq!(seqs(server.journal.receipts_since(1)), [3, 4, 5]);
    assert_eq!(seqs(server.journal.receipts_since(4)), [5]);
    assert!(server.journal.receipts_since(u64::MAX).is_empty());
    assert_eq!(server.journal.dropped(), 2);
}

#[tokio::test]
async fn receipts_route_returns_all_or_those_since_a_number() {
    let server = Server::always(Behavior::answer(200)).await;
    let mut client = server.connect().await;
    for ordinal in 1..=3 {
        client.send(&signed(&format!("/webhook/{ordinal}"), "e", 1, b"{}")).await;
        client.response().await;
    }
    let kept = server.receipts(3).await;
    for (path, from) in [("/receipts", 0), ("/receipts?since=2", 2)] {
        client.send(format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes()).await;
        let page: serde_json::Value = serde_json::from_slice(&client.response().await.1).unwrap();
        assert_eq!(page["dropped"], 0);
        assert_eq!(page["counts"]["accepted"], 3);
        let receipts: Vec<Receipt> = serde_json::from_value(page["receipts"].clone()).unwrap();
        assert_eq!(receipts, kept[from..]);
    }
}

#[tokio::test]
async fn disabled_journal_counts_and_keeps_nothing() {
    let server = Server::start(always(Behavior::answer(200)), Journal::disabled()).await;
    let mut client = server.connect().await;
    for _ in 0..3 {
        client.send(&signed("/webhook/1", "e1", 1, b"{}")).await;
        client.response().await;
    }
    client.send(b"POST /webhook HTTP/1.1\r\n\r\n").await;
    client.response().await;
    assert!(server.receipts(4).await.is_empty());
    let counts = server.journal.counts();
    assert_eq!((counts.requests, counts.valid, counts.invalid, counts.accepted), (4, 3, 1, 3));
}
