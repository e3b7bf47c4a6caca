//! The largest body that is taken, and many connections at a time.

use mock_receiver::Behavior;

use crate::client::{Server, signed};

#[tokio::test]
async fn a_body_of_the_limit_is_taken_whole() {
    let server = Server::always(Behavior::answer(200)).await;
    let mut client = server.connect().await;
    let body = vec![b' '; 4 * 1024 * 1024];
    client.send(&signed("/webhook/1", "e1", 1, &body)).await;
    assert_eq!(client.answer().await.0, 200);
    assert_eq!(server.receipts(1).await[0].bytes, body.len());
}

/// Everything is sent before anything is read, so all requests are open at the same time.
#[tokio::test]
async fn many_hanging_requests_are_open_at_once_and_none_is_forgotten() {
    let server = Server::always(Behavior::Hang { hold_ms: 600_000 }).await;
    let mut clients = Vec::new();
    for ordinal in 0..200 {
        let mut client = server.connect().await;
        client
            .send(&signed(&format!("/webhook/{ordinal}"), "e", 1, b"{}"))
            .await;
        clients.push(client);
    }
    let mut changed = server.journal.changed();
    crate::client::within(changed.wait_for(|changes| *changes >= 200))
        .await
        .unwrap();
    assert_eq!(server.journal.open_requests(), 200);
    drop(clients);
    assert_eq!(server.receipts(200).await.len(), 200);
}
