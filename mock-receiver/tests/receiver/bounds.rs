//! Limits: the maximum size of a body, and many concurrent connections.

use mock_receiver::Behavior;

use crate::client::{Server, signed};

#[tokio::test]
async fn body_of_the_maximum_size_is_accepted() {
    let server = Server::always(Behavior::answer(200)).await;
    let mut client = server.connect().await;
    let body = vec![b' '; 4 * 1024 * 1024];
    client.send(&signed("/webhook/1", "e1", 1, &body)).await;
    assert_eq!(client.response().await.0, 200);
    assert_eq!(server.receipts(1).await[0].bytes, body.len());
}

/// All requests are sent before a response is read, so all are open at the same time.
#[tokio::test]
async fn two_hundred_hanging_requests_are_open_concurrently() {
    let server = Server::always(Behavior::Hang { hold_ms: 600_000 }).await;
    let mut clients = Vec::new();
    for ordinal in 0..200 {
        let mut client = server.connect().await;
        client.send(&signed(&format!("/webhook/{ordinal}"), "e", 1, b"{}")).await;
        clients.push(client);
    }
    let mut changed = server.journal.changed();
    crate::client::within(changed.wait_for(|changes| *changes >= 200)).await.unwrap();
    assert_eq!(server.journal.open_requests(), 200);
    drop(clients);
    assert_eq!(server.receipts(200).await.len(), 200);
}
