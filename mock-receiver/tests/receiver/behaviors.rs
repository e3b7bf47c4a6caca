//! Each behavior over a real socket: the bytes of the response, the end of the connection, and the
//! ending in the receipt.

use std::io;

use flate2::read::GzDecoder;
use mock_receiver::{Behavior, Ending, Framing, RetryAfter, Then};
use tokio::io::AsyncWriteExt as _;

use crate::client::{Client, Server, signed};

/// Sends one signed request. Returns the bytes of the response, true if the connection was reset,
/// and the ending.
async fn play(behavior: Behavior) -> (Vec<u8>, bool, Ending) {
    let server = Server::always(behavior.clone()).await;
    let mut client = server.connect().await;
    let request = String::from_utf8(signed("/webhook/7", "e7", 1, b"{}")).unwrap();
    let closing = request.replace("host: test", "connection: close");
    client.send(closing.as_bytes()).await;
    let (bytes, reset) = client.rest().await;
    let receipt = server.receipts(1).await.remove(0);
    assert_eq!(receipt.behavior, Some(behavior));
    (bytes, reset, receipt.ending.unwrap())
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn answer_is_complete_and_has_its_status() {
    for (status, body) in [(200, "{\"received\":true}\n"), (500, "{\"received\":false}\n")] {
        let (bytes, reset, ending) = play(Behavior::answer(status)).await;
        let response = text(bytes);
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{response}");
        assert!(response.ends_with(&format!("content-length: {}\r\n\r\n{body}", body.len())));
        assert!(!reset);
        assert_eq!(ending, Ending::Answered { status });
    }
}

#[tokio::test]
async fn answer_without_body_has_no_content_length() {
    for status in [204, 304] {
        let (bytes, _, _) = play(Behavior::answer(status)).await;
        let response = text(bytes);
        assert!(
            response.ends_with("\r\n\r\n") && !response.contains("content-length"),
            "{response}"
        );
    }
}

#[tokio::test]
async fn retry_after_is_seconds_a_date_or_any_text() {
    for (retry_after, value) in [
        (RetryAfter::Seconds(120), "retry-after: 120\r\n"),
        (RetryAfter::DateIn(60), " GMT\r\n"),
        (RetryAfter::Text("soon".into()), "retry-after: soon\r\n"),
    ] {
        let behavior =
            Behavior::Answer { status: 503, retry_after: Some(retry_after), after_ms: 0 };
        let (bytes, _, _) = play(behavior).await;
        let response = text(bytes);
        assert!(response.contains("retry-after: ") && response.contains(value), "{response}");
    }
}

#[tokio::test]
async fn delayed_answer_is_not_sent_before_its_delay() {
    let behavior = Behavior::Answer { status: 200, retry_after: None, after_ms: 30 };
    let server = Server::always(behavior).await;
    let mut client = server.connect().await;
    client.send(&signed("/webhook/7", "e7", 1, b"{}")).await;
    assert_eq!(client.response().await.0, 200);
    let receipt = server.receipts(1).await.remove(0);
    assert!(receipt.end_us.unwrap() - receipt.begin_us >= 30_000);
}

#[tokio::test]
async fn peer_that_closes_during_the_delay_is_recorded() {
    let behavior = Behavior::Answer { status: 200, retry_after: None, after_ms: 600_000 };
    assert_eq!(close_after_begin(behavior).await, Ending::PeerClosed);
}

#[tokio::test]
async fn hang_lasts_until_the_peer_closes() {
    let behavior = Behavior::Hang { hold_ms: 600_000 };
    assert_eq!(close_after_begin(behavior).await, Ending::HungUntilPeerClosed);
}

#[tokio::test]
async fn hang_after_head_lasts_until_the_peer_closes() {
    let behavior = Behavior::HangAfterHead { status: 200, hold_ms: 600_000 };
    assert_eq!(close_after_begin(behavior).await, Ending::HungUntilPeerClosed);
}

#[tokio::test]
async fn drip_ends_when_the_peer_closes() {
    let behavior = Behavior::Drip { status: 200, bytes: 100, every_ms: 600_000 };
    assert_eq!(close_after_begin(behavior).await, Ending::PeerClosed);
}

#[tokio::test]
async fn endless_body_ends_when_the_peer_closes() {
    for framing in [Framing::Chunked, Framing::UntilClose] {
        let behavior = Behavior::EndlessBody { status: 200, framing };
        assert_eq!(close_after_begin(behavior).await, Ending::PeerClosed);
    }
}

/// Sends a request, closes the connection after its begin, and returns the ending.
async fn close_after_begin(behavior: Behavior) -> Ending {
    let server = Server::always(behavior).await;
    let mut changed = server.journal.changed();
    let mut client = server.connect().await;
    client.send(&signed("/webhook/7", "e7", 1, b"{}")).await;
    crate::client::within(changed.changed()).await.unwrap();
    assert_eq!(server.journal.open_requests(), 1);
    drop(client);
    server.receipts(1).await.remove(0).ending.unwrap()
}

#[tokio::test]
async fn hang_closes_without_a_byte_at_its_time_limit() {
    let (bytes, reset, ending) = play(Behavior::Hang { hold_ms: 10 }).await;
    assert_eq!((bytes, reset, ending), (Vec::new(), false, Ending::HungUntilBound));
}

#[tokio::test]
async fn hang_after_head_sends_an_incomplete_body() {
    let (bytes, reset, ending) = play(Behavior::HangAfterHead { status: 201, hold_ms: 10 }).await;
    let response = text(bytes);
    assert!(response.starts_with("HTTP/1.1 201 Created\r\ncontent-length: 1000\r\n"), "{response}");
    assert!(response.len() < 1000 && !reset);
    assert_eq!(ending, Ending::HungUntilBound);
}

#[tokio::test]
async fn reset_before_answer_sends_nothing() {
    let (bytes, reset, ending) = play(Behavior::ResetBeforeAnswer { after_ms: 0 }).await;
    assert_eq!((bytes, reset, ending), (Vec::new(), true, Ending::Reset));
}

#[tokio::test]
async fn close_before_answer_sends_nothing_and_does_not_reset() {
    let (bytes, reset, ending) = play(Behavior::CloseBeforeAnswer { after_ms: 0 }).await;
    assert_eq!((bytes, reset, ending), (Vec::new(), false, Ending::Closed));
}

#[tokio::test]
async fn partial_head_has_no_empty_line() {
    let (bytes, reset, ending) = play(Behavior::PartialHead).await;
    let response = text(bytes);
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n") && !response.contains("\r\n\r\n"));
    assert_eq!((reset, ending), (false, Ending::BrokenOff));
}

#[tokio::test]
async fn reset_mid_body_resets() {
    let (bytes, reset, ending) = play(Behavior::ResetMidBody { status: 200 }).await;
    assert!(bytes.is_empty() || text(bytes).starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!((reset, ending), (true, Ending::Reset));
}

#[tokio::test]
async fn truncated_body_is_shorter_than_its_length() {
    let (bytes, reset, ending) = play(Behavior::TruncatedBody { status: 200 }).await;
    let response = text(bytes);
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    let length: usize = head.split_once("content-length: ").unwrap().1.parse().unwrap();
    assert!(!body.is_empty() && body.len() < length, "{response}");
    assert_eq!((reset, ending), (false, Ending::BrokenOff));
}

#[tokio::test]
async fn answer_before_a_held_reset_is_complete() {
    let server = Server::always(Behavior::ResetAfterAnswer { status: 200, hold_ms: 100 }).await;
    let mut client = server.connect().await;
    client.send(&signed("/webhook/7", "e7", 1, b"{}")).await;
    assert_eq!(client.response().await.0, 200);
    assert_eq!(client.rest().await, (Vec::new(), true));
    let receipt = server.receipts(1).await.remove(0);
    assert_eq!(receipt.ending, Some(Ending::AnsweredThenReset { status: 200 }));
    assert!(receipt.is_accepted());
}

#[tokio::test]
async fn drip_that_is_read_to_its_end_is_complete() {
    let (bytes, reset, ending) = play(Behavior::Drip { status: 200, bytes: 5, every_ms: 1 }).await;
    assert!(text(bytes).ends_with("content-length: 5\r\n\r\n....."));
    assert_eq!((reset, ending), (false, Ending::Answered { status: 200 }));
}

/// One mebibyte consists of 64 pieces, which shows that the body does not end after a few.
#[tokio::test]
async fn endless_body_continues_while_it_is_read() {
    for framing in [Framing::Chunked, Framing::UntilClose] {
        let server = Server::always(Behavior::EndlessBody { status: 200, framing }).await;
        let mut client = server.connect().await;
        client.send(&signed("/webhook/7", "e7", 1, b"{}")).await;
        let head = client.read_until_empty_line().await;
        assert_eq!(head.contains("transfer-encoding: chunked"), framing == Framing::Chunked);
        let mut read = 0;
        while read < 1024 * 1024 {
            let more = client.more().await;
            assert_ne!(more, 0);
            read += more;
        }
    }
}

#[tokio::test]
async fn bad_chunking_has_an_invalid_second_chunk_size() {
    let (bytes, reset, ending) = play(Behavior::BadChunking { status: 200 }).await;
    assert!(text(bytes).ends_with("\r\n\r\n5\r\nhello\r\nnone\r\n"));
    assert_eq!((reset, ending), (false, Ending::BrokenOff));
}

#[tokio::test]
async fn garbage_is_neither_http_nor_utf_8() {
    let (bytes, reset, ending) = play(Behavior::Garbage).await;
    assert!(bytes.contains(&0) && String::from_utf8(bytes).is_err());
    assert_eq!((reset, ending), (false, Ending::BrokenOff));
}

#[tokio::test]
async fn header_flood_has_the_requested_size_and_is_complete() {
    let (bytes, reset, ending) = play(Behavior::HeaderFlood { status: 200, bytes: 100_000 }).await;
    assert!(bytes.len() >= 100_000 && bytes.len() < 110_000);
    assert!(bytes.ends_with(b"content-length: 0\r\n\r\n") || bytes.ends_with(b".\r\n\r\n"));
    assert_eq!((reset, ending), (false, Ending::Answered { status: 200 }));
}

#[tokio::test]
async fn redirect_contains_its_location() {
    let location = "http://127.0.0.1:1/elsewhere".to_owned();
    let (bytes, _, ending) = play(Behavior::Redirect { status: 302, location }).await;
    let response = text(bytes);
    assert!(response.starts_with("HTTP/1.1 302 Found\r\n"));
    assert!(response.contains("location: http://127.0.0.1:1/elsewhere\r\n"));
    assert_eq!(ending, Ending::Answered { status: 302 });
}

#[tokio::test]
async fn gzip_bomb_is_small_and_decompresses_to_64_mib() {
    let (bytes, _, ending) = play(Behavior::GzipBomb { status: 200 }).await;
    let body = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    assert!(bytes.len() < 128 * 1024);
    let unpacked = io::copy(&mut GzDecoder::new(&bytes[body..]), &mut io::sink()).unwrap();
    assert_eq!(unpacked, 64 * 1024 * 1024);
    assert_eq!(ending, Ending::Answered { status: 200 });
}

/// Sends one request on a connection that stays open, and returns it after its response.
async fn answered(then: Then) -> (Server, Client) {
    let server = Server::always(Behavior::AnswerThen {
        status: 500,
        retry_after: None,
        after_ms: 0,
        then,
        then_ms: 0,
    })
    .await;
    let mut client = server.connect().await;
    client.send(&signed("/webhook/7", "e7", 1, b"{}")).await;
    assert_eq!(client.response().await.0, 500);
    let ending = server.receipts(1).await.remove(0).ending;
    assert_eq!(ending, Some(Ending::Answered { status: 500 }));
    (server, client)
}

// The receipt ends with the response, so that a checker does not take the step for a part of it.
#[tokio::test]
async fn answer_then_sends_a_response_that_no_request_has() {
    let (server, mut client) = answered(Then::Response).await;
    assert_eq!(client.response().await.0, 200);
    assert_eq!(server.receipts(1).await.len(), 1);
}

#[tokio::test]
async fn answer_then_sends_bytes_that_are_not_http() {
    let (_server, mut client) = answered(Then::Content).await;
    // The receiver closes after the end of the sender, and it has sent the bytes by then.
    client.stream.shutdown().await.unwrap();
    assert_eq!(client.rest().await, (b"ok\r\n".to_vec(), false));
}

#[tokio::test]
async fn answer_then_closes_a_connection_that_it_kept() {
    let (_server, mut client) = answered(Then::Close).await;
    assert_eq!(client.rest().await, (Vec::new(), false));
}
