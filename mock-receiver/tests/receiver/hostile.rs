//! Malformed requests: the receiver responds or closes, and continues to serve.

use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use mock_receiver::{Behavior, Ending, health};
use proptest::prelude::*;
use tokio::io::AsyncWriteExt as _;

use crate::client::{Server, signed};

/// A sequence of almost well-formed requests, well-formed requests and arbitrary bytes.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        4 => almost_a_request(),
        1 => proptest::collection::vec(any::<u8>(), 0..60),
        1 => Just(signed("/webhook/1", "e1", 1, b"{}")),
    ];
    proptest::collection::vec(part, 0..5).prop_map(|parts| parts.concat())
}

/// A request line, header lines and a body. Each part is mostly well-formed alone.
fn almost_a_request() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        4 => Just("POST /webhook/1 HTTP/1.1\r\n"),
        1 => Just("GET /receipts?since=18446744073709551615 HTTP/1.0\r\n"),
        1 => Just("POST /webhook HTTP/9.9\r\n"),
    ];
    let line: &[&[u8]] = &[
        b"content-length: 5\r\n",
        b"content-length: \r\n",
        b"transfer-encoding: chunked\r\n",
        b"expect: 100-continue\r\n",
        b"connection: close,\r\n",
        b"webhook-id: \xff\xfe\r\n",
        b"webhook-timestamp: \xc3\r\n",
        b"webhook-signature: v1,v1, ,\r\n",
        b"webhook-attempt: 99999999999\r\n",
    ];
    let body: &[&[u8]] = &[
        b"",
        b"hello",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhell",
        b"5\r\nhello5\r\n",
        b"ffffffffffffffff\r\n",
        b"fffffffffffffffff\r\n",
        b"0\r\ntrailer\r\n\r\n",
    ];
    let lines = proptest::sample::subsequence(line.to_vec(), 0..4);
    let body = proptest::sample::select(body.to_vec());
    (first, lines, body).prop_map(|(first, lines, body)| {
        [first.as_bytes(), &lines.concat(), b"\r\n", body].concat()
    })
}

/// The runtime catches a panic in the task of a connection, so a panic hook records it. All tasks
/// run on the thread of this test, which distinguishes its panics from those of other tests.
#[test]
fn arbitrary_bytes_cause_no_panic_and_no_missing_ending() {
    let panicked = watch_for_panics();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = runtime.block_on(Server::always(Behavior::answer(200)));
    let mut runner = proptest::test_runner::TestRunner::default();
    let result = runner.run(&stream(), |bytes| {
        runtime.block_on(async {
            let mut client = server.connect().await;
            // The receiver may refuse the request and close before all bytes are sent.
            if client.stream.write_all(&bytes).await.is_ok() {
                let _closed_by_peer = client.stream.shutdown().await;
            }
            client.rest().await;
            health::check(server.receiver.address()).await.unwrap();
        });
        prop_assert!(!panicked.load(Ordering::SeqCst));
        prop_assert_eq!(server.journal.open_requests(), 0);
        let endings = server.journal.receipts().into_iter().map(|receipt| receipt.ending);
        let missing = endings.filter(|ending| matches!(ending, None | Some(Ending::Stopped)));
        prop_assert_eq!(missing.count(), 0);
        Ok(())
    });
    result.unwrap();
}

fn watch_for_panics() -> Arc<AtomicBool> {
    let panicked = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&panicked);
    let watched = thread::current().id();
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if thread::current().id() == watched {
            seen.store(true, Ordering::SeqCst);
        }
        usual(info);
    }));
    panicked
}
