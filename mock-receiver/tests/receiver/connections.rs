//! HTTP/1.1 connections: many requests on one connection, in pieces of any size.

use mock_receiver::{Behavior, Journal, SignatureCheck};
use std::sync::Arc;

use crate::client::{Server, signed, signed_head};

#[tokio::test]
async fn connection_serves_one_request_after_another() {
    let server = Server::always(Behavior::answer(200)).await;
    let mut client = server.connect().await;
    for ordinal in 0..100 {
        client.send(&signed(&format!("/webhook/{ordinal}"), "e", 1, b"{}")).await;
        assert_eq!(client.response().await.0, 200);
    }
    let ordinals = server.receipts(100).await.into_iter().map(|receipt| receipt.ordinal.unwrap());
    assert!(ordinals.eq(0..100));
}

/// The first response is delayed, so the other requests arrive before it and must be kept.
#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let script = Arc::new(|seen: &mock_receiver::Seen| {
        let after_ms = if seen.ordinal == Some(0) { 30 } else { 0 };
        let status = 200 + u16::try_from(seen.ordinal.unwrap()).unwrap();
        Behavior::Answer { status, retry_after: None, after_ms }
    });
    let server = Server::start(script, Journal::new()).await;
    let mut client = server.connect().await;
    let ordinals = [0_u16, 1, 2, 3, 5, 6];
    let requests: Vec<u8> = ordinals
        .iter()
        .flat_map(|ordinal| signed(&format!("/webhook/{ordinal}"), "e", 1, b"[1, 2]"))
        .collect();
    client.send(&requests).await;
    for ordinal in ordinals {
        assert_eq!(client.response().await.0, 200 + ordinal);
    }
    assert!(server.receipts(6).await.iter().all(|receipt| receipt.signature.is_valid()));
}

#[tokio::test]
async fn request_can_arrive_byte_by_byte() {
    let server = Server::always(Behavior::answer(200)).await;
    let mut client = server.connect().await;
    for byte in signed("/webhook/1", "e1", 1, "{\"ä\": 1.0}".as_bytes()) {
        client.send(&[byte]).await;
    }
    assert_eq!(client.response().await.0, 200);
}

#[tokio::test]
async fn chunked_body_excludes_the_framing() {
    let server = Server::always(Behavior::answer(200)).await;
    let mut client = server.connect().await;
    for (body, framed) in [
        ("hello world", "5;name=value\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"),
        ("hello world", "B\r\nhello world\r\n0\r\ntrailer: 1\r\nanother: 2\r\n\r\n"),
        ("", "0\r\n\r\n"),
    ] {
        let lines = "transfer-encoding: chunked\r\n";
        let mut request = signed_head("/webhook/1", "e1", 1, body.as_bytes(), lines);
        request.extend_from_slice(framed.as_bytes());
        client.send(&request).await;
        assert_eq!(client.response().await.0, 200, "{framed}");
    }
    let receipts = server.receipts(3).await;
    assert_eq!(receipts[0].sha256, receipts[1].sha256);
    assert_eq!(receipts.iter().map(|receipt| receipt.bytes).collect::<Vec<_>>(), [11, 11, 0]);
}

#[tokio::test]
async fn client_that_expects_100_continue_receives_it() {
    let server = Server::always(Behavior::answer(200)).await;
    let mut client = server.connect().await;
    let lines = "content-length: 2\r\nexpect: 100-continue\r\n";
    client.send(&signed_head("/webhook/1", "e1", 1, b"{}", lines)).await;
    assert_eq!(client.response().await.0, 100);
    client.send(b"{}").await;
    assert_eq!(client.response().await.0, 200);
}

#[tokio::test]
async fn connection_close_and_http_1_0_close_the_connection() {
    let server = Server::always(Behavior::answer(200)).await;
    for head in
        ["GET /healthz HTTP/1.1\r\nConnection: Close\r\n\r\n", "GET /healthz HTTP/1.0\r\n\r\n"]
    {
        let mut client = server.connect().await;
        client.send(head.as_bytes()).await;
        let (bytes, reset) = client.rest().await;
        assert!(bytes.starts_with(b"HTTP/1.1 200 OK") && !reset);
    }
}

#[tokio::test]
async fn script_receives_ordinal_attempt_id_and_arrivals() {
    let script = Arc::new(|seen: &mock_receiver::Seen| {
        let expected = (seen.ordinal, seen.attempt, seen.id.as_str(), seen.arrival);
        Behavior::answer(match expected {
            (Some(4), Some(9), "a", 1) => 201,
            (Some(4), Some(8), "b", 2) => 202,
            (None, Some(7), "a", 1) => 203,
            (None, Some(6), "a", 2) => 206,
            _ => 500,
        })
    });
    let server = Server::start(script, Journal::new()).await;
    let mut client = server.connect().await;
    for (path, id, attempt, status) in [
        ("/webhook/4", "a", 9, 201),
        ("/webhook/4", "b", 8, 202),
        ("/webhook", "a", 7, 203),
        ("/webhook?x=1", "a", 6, 206),
    ] {
        client.send(&signed(path, id, attempt, b"{}")).await;
        assert_eq!(client.response().await.0, status);
    }
}

#[tokio::test]
async fn other_routes_respond_without_a_receipt() {
    let server = Server::always(Behavior::answer(200)).await;
    let mut client = server.connect().await;
    for (request, status) in [
        ("GET /healthz", 200),
        ("GET /receipts", 200),
        ("GET /receipts?since=x", 400),
        ("GET /webhook", 405),
        ("POST /receipts", 405),
        ("POST /webhooks", 404),
        ("POST /webhook/", 404),
        ("POST /webhook/-1", 404),
        ("POST /webhook/+1", 404),
        ("POST /webhook/18446744073709551616", 404),
        ("GET /", 404),
    ] {
        client.send(format!("{request} HTTP/1.1\r\n\r\n").as_bytes()).await;
        assert_eq!(client.response().await.0, status, "{request}");
    }
    assert_eq!(server.journal.counts().requests, 0);
}

#[tokio::test]
async fn largest_64_bit_ordinal_is_accepted() {
    let server = Server::always(Behavior::answer(200)).await;
    let mut client = server.connect().await;
    client.send(&signed("/webhook/18446744073709551615", "e", 1, b"{}")).await;
    assert_eq!(client.response().await.0, 200);
    let receipt = server.receipts(1).await.remove(0);
    assert_eq!(receipt.ordinal, Some(u64::MAX));
    assert_eq!(receipt.signature, SignatureCheck::Valid);
}
