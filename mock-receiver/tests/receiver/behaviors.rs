//! Each behavior over a real socket: which bytes come, how the connection ends, and what the
//! receipt says about it.

use std::io;

use flate2::read::GzDecoder;
use mock_receiver::{Behavior, Ending, Framing, RetryAfter};

use crate::client::{Server, signed};

/// Sends one signed request and gives the answer's bytes, whether a reset came, and the ending.
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
async fn an_answer_is_whole_and_carries_its_status() {
    for (status, body) in [
        (200, "{\"received\":true}\n"),
        (500, "{\"received\":false}\n"),
    ] {
        let (bytes, reset, ending) = play(Behavior::answer(status)).await;
        let answer = text(bytes);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        assert!(answer.ends_with(&format!("content-length: {}\r\n\r\n{body}", body.len())));
        assert!(!reset);
        assert_eq!(ending, Ending::Answered { status });
    }
}

#[tokio::test]
async fn an_answer_that_has_no_body_by_definition_announces_none() {
    for status in [204, 304] {
        let (bytes, _, _) = play(Behavior::answer(status)).await;
        let answer = text(bytes);
        assert!(
            answer.ends_with("\r\n\r\n") && !answer.contains("content-length"),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn retry_after_comes_in_seconds_as_a_date_and_as_nonsense() {
    for (retry_after, value) in [
        (RetryAfter::Seconds(120), "retry-after: 120\r\n"),
        (RetryAfter::DateIn(60), " GMT\r\n"),
        (RetryAfter::Text("soon".into()), "retry-after: soon\r\n"),
    ] {
        let behavior = Behavior::Answer {
            status: 503,
            retry_after: Some(retry_after),
            after_ms: 0,
        };
        let (bytes, _, _) = play(behavior).await;
        let answer = text(bytes);
        assert!(
            answer.contains("retry-after: ") && answer.contains(value),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn a_delayed_answer_comes_after_its_delay() {
    let behavior = Behavior::Answer {
        status: 200,
        retry_after: None,
        after_ms: 30,
    };
    let server = Server::always(behavior).await;
    let mut client = server.connect().await;
    client.send(&signed("/webhook/7", "e7", 1, b"{}")).await;
    assert_eq!(client.answer().await.0, 200);
    let receipt = server.receipts(1).await.remove(0);
    assert!(receipt.end_us.unwrap() - receipt.begin_us >= 30_000);
}

#[tokio::test]
async fn a_peer_that_leaves_during_the_delay_is_written_down_as_gone() {
    let behavior = Behavior::Answer {
        status: 200,
        retry_after: None,
        after_ms: 600_000,
    };
    assert_eq!(leave_after_begin(behavior).await, Ending::PeerClosed);
}

#[tokio::test]
async fn a_hang_lasts_until_the_peer_closes() {
    let behavior = Behavior::Hang { hold_ms: 600_000 };
    assert_eq!(
        leave_after_begin(behavior).await,
        Ending::HungUntilPeerClosed
    );
}

#[tokio::test]
async fn a_hang_after_the_head_lasts_until_the_peer_closes() {
    let behavior = Behavior::HangAfterHead {
        status: 200,
        hold_ms: 600_000,
    };
    assert_eq!(
        leave_after_begin(behavior).await,
        Ending::HungUntilPeerClosed
    );
}

#[tokio::test]
async fn a_drip_ends_when_the_peer_leaves() {
    let behavior = Behavior::Drip {
        status: 200,
        bytes: 100,
        every_ms: 600_000,
    };
    assert_eq!(leave_after_begin(behavior).await, Ending::PeerClosed);
}

#[tokio::test]
async fn an_endless_body_ends_when_the_peer_leaves() {
    for framing in [Framing::Chunked, Framing::UntilClose] {
        let behavior = Behavior::EndlessBody {
            status: 200,
            framing,
        };
        assert_eq!(leave_after_begin(behavior).await, Ending::PeerClosed);
    }
}

/// Sends a request, drops the connection once the receiver has begun, and gives the ending.
async fn leave_after_begin(behavior: Behavior) -> Ending {
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
async fn a_hang_that_reaches_its_bound_is_closed_without_a_byte() {
    let (bytes, reset, ending) = play(Behavior::Hang { hold_ms: 10 }).await;
    assert_eq!(
        (bytes, reset, ending),
        (Vec::new(), false, Ending::HungUntilBound)
    );
}

#[tokio::test]
async fn a_hang_after_the_head_has_sent_the_head_and_less_than_it_promised() {
    let (bytes, reset, ending) = play(Behavior::HangAfterHead {
        status: 201,
        hold_ms: 10,
    })
    .await;
    let answer = text(bytes);
    assert!(
        answer.starts_with("HTTP/1.1 201 Created\r\ncontent-length: 1000\r\n"),
        "{answer}"
    );
    assert!(answer.len() < 1000 && !reset);
    assert_eq!(ending, Ending::HungUntilBound);
}

#[tokio::test]
async fn a_reset_before_the_answer_sends_nothing() {
    let (bytes, reset, ending) = play(Behavior::ResetBeforeAnswer { after_ms: 0 }).await;
    assert_eq!((bytes, reset, ending), (Vec::new(), true, Ending::Reset));
}

#[tokio::test]
async fn a_close_before_the_answer_sends_nothing_and_is_no_reset() {
    let (bytes, reset, ending) = play(Behavior::CloseBeforeAnswer { after_ms: 0 }).await;
    assert_eq!((bytes, reset, ending), (Vec::new(), false, Ending::Closed));
}

#[tokio::test]
async fn a_partial_head_has_no_end() {
    let (bytes, reset, ending) = play(Behavior::PartialHead).await;
    let answer = text(bytes);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && !answer.contains("\r\n\r\n"));
    assert_eq!((reset, ending), (false, Ending::BrokenOff));
}

#[tokio::test]
async fn a_reset_in_the_body_is_a_reset() {
    let (bytes, reset, ending) = play(Behavior::ResetMidBody { status: 200 }).await;
    assert!(bytes.is_empty() || text(bytes).starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!((reset, ending), (true, Ending::Reset));
}

#[tokio::test]
async fn a_truncated_body_is_shorter_than_it_was_announced() {
    let (bytes, reset, ending) = play(Behavior::TruncatedBody { status: 200 }).await;
    let answer = text(bytes);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let length: usize = head
        .split_once("content-length: ")
        .unwrap()
        .1
        .parse()
        .unwrap();
    assert!(!body.is_empty() && body.len() < length, "{answer}");
    assert_eq!((reset, ending), (false, Ending::BrokenOff));
}

#[tokio::test]
async fn an_answer_before_a_reset_is_whole_when_there_is_time_to_read_it() {
    let server = Server::always(Behavior::ResetAfterAnswer {
        status: 200,
        hold_ms: 100,
    })
    .await;
    let mut client = server.connect().await;
    client.send(&signed("/webhook/7", "e7", 1, b"{}")).await;
    assert_eq!(client.answer().await.0, 200);
    assert_eq!(client.rest().await, (Vec::new(), true));
    let receipt = server.receipts(1).await.remove(0);
    assert_eq!(
        receipt.ending,
        Some(Ending::AnsweredThenReset { status: 200 })
    );
    assert!(receipt.is_accepted());
}

#[tokio::test]
async fn a_drip_that_is_read_to_its_end_is_a_whole_answer() {
    let (bytes, reset, ending) = play(Behavior::Drip {
        status: 200,
        bytes: 5,
        every_ms: 1,
    })
    .await;
    assert!(text(bytes).ends_with("content-length: 5\r\n\r\n....."));
    assert_eq!((reset, ending), (false, Ending::Answered { status: 200 }));
}

/// A mebibyte is sixty-four pieces: whoever gets that far would get any number.
#[tokio::test]
async fn an_endless_body_goes_on_as_long_as_it_is_read() {
    for framing in [Framing::Chunked, Framing::UntilClose] {
        let server = Server::always(Behavior::EndlessBody {
            status: 200,
            framing,
        })
        .await;
        let mut client = server.connect().await;
        client.send(&signed("/webhook/7", "e7", 1, b"{}")).await;
        let head = client.read_until_empty_line().await;
        assert_eq!(
            head.contains("transfer-encoding: chunked"),
            framing == Framing::Chunked
        );
        let mut read = 0;
        while read < 1024 * 1024 {
            let more = client.more().await;
            assert_ne!(more, 0);
            read += more;
        }
    }
}

#[tokio::test]
async fn bad_chunking_breaks_at_the_second_chunk() {
    let (bytes, reset, ending) = play(Behavior::BadChunking { status: 200 }).await;
    assert!(text(bytes).ends_with("\r\n\r\n5\r\nhello\r\nnone\r\n"));
    assert_eq!((reset, ending), (false, Ending::BrokenOff));
}

#[tokio::test]
async fn garbage_is_neither_http_nor_text() {
    let (bytes, reset, ending) = play(Behavior::Garbage).await;
    assert!(bytes.contains(&0) && String::from_utf8(bytes).is_err());
    assert_eq!((reset, ending), (false, Ending::BrokenOff));
}

#[tokio::test]
async fn a_header_flood_is_as_large_as_asked_and_still_an_answer() {
    let (bytes, reset, ending) = play(Behavior::HeaderFlood {
        status: 200,
        bytes: 100_000,
    })
    .await;
    assert!(bytes.len() >= 100_000 && bytes.len() < 110_000);
    assert!(bytes.ends_with(b"content-length: 0\r\n\r\n") || bytes.ends_with(b".\r\n\r\n"));
    assert_eq!((reset, ending), (false, Ending::Answered { status: 200 }));
}

#[tokio::test]
async fn a_redirect_names_its_location() {
    let location = "http://127.0.0.1:1/elsewhere".to_owned();
    let (bytes, _, ending) = play(Behavior::Redirect {
        status: 302,
        location,
    })
    .await;
    let answer = text(bytes);
    assert!(answer.starts_with("HTTP/1.1 302 Found\r\n"));
    assert!(answer.contains("location: http://127.0.0.1:1/elsewhere\r\n"));
    assert_eq!(ending, Ending::Answered { status: 302 });
}

#[tokio::test]
async fn a_gzip_bomb_is_small_on_the_wire_and_large_unpacked() {
    let (bytes, _, ending) = play(Behavior::GzipBomb { status: 200 }).await;
    let body = bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap()
        + 4;
    assert!(bytes.len() < 128 * 1024);
    let unpacked = io::copy(&mut GzDecoder::new(&bytes[body..]), &mut io::sink()).unwrap();
    assert_eq!(unpacked, 64 * 1024 * 1024);
    assert_eq!(ending, Ending::Answered { status: 200 });
}
