//! Bytes that nobody should send: the receiver answers or closes, and goes on.

use mock_receiver::{Behavior, Ending, health};
use proptest::prelude::*;
use tokio::io::AsyncWriteExt as _;

use crate::client::{Server, signed};

/// Pieces of requests, whole and broken, in any order, with arbitrary bytes in between.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..60),
        Just(b"POST /webhook/1 HTTP/1.1\r\n".to_vec()),
        Just(b"GET /receipts?since=1 HTTP/1.0\r\n".to_vec()),
        Just(b"content-length: 5\r\n".to_vec()),
        Just(b"transfer-encoding: chunked\r\n".to_vec()),
        Just(b"expect: 100-continue\r\n".to_vec()),
        Just(b"webhook-id: \xff\xfe\r\nwebhook-timestamp: \xc3\r\n".to_vec()),
        Just(b"\r\n\r\n".to_vec()),
        Just(b"5\r\nhello\r\n0\r\n\r\n".to_vec()),
        Just(b"fffffffffffffffff\r\n".to_vec()),
        Just(signed("/webhook/1", "e1", 1, b"{}")),
    ];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

/// A panic would drop an open request, which would end as stopped; and it would leave a peer that
/// sent a whole valid request without an answer.
#[test]
fn no_bytes_make_the_receiver_panic_or_forget_an_ending() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let server = runtime.block_on(Server::always(Behavior::answer(200)));
    let mut runner = proptest::test_runner::TestRunner::default();
    let result = runner.run(&stream(), |bytes| {
        runtime.block_on(async {
            let mut client = server.connect().await;
            // The receiver may have refused and closed before everything was sent.
            if client.stream.write_all(&bytes).await.is_ok() {
                let _closed_by_peer = client.stream.shutdown().await;
            }
            client.rest().await;
            health::check(server.receiver.address()).await.unwrap();
        });
        prop_assert_eq!(server.journal.open_requests(), 0);
        let endings = server
            .journal
            .receipts()
            .into_iter()
            .map(|receipt| receipt.ending);
        let forgotten = endings.filter(|ending| matches!(ending, None | Some(Ending::Stopped)));
        prop_assert_eq!(forgotten.count(), 0);
        Ok(())
    });
    result.unwrap();
}
