//! A stopped receiver has no listener, no connection and no open request.

use mock_receiver::{Behavior, Ending, health};
use tokio::net::TcpStream;

use crate::client::{Server, signed, within};

#[tokio::test]
async fn stop_closes_the_listener_and_ends_open_requests() {
    let server = Server::always(Behavior::Hang { hold_ms: 600_000 }).await;
    let address = server.receiver.address();
    let mut changed = server.journal.changed();
    let mut hanging = server.connect().await;
    hanging.send(&signed("/webhook/1", "e1", 1, b"{}")).await;
    let mut idle = server.connect().await;
    within(changed.changed()).await.unwrap();
    within(server.receiver.stop()).await;
    assert_eq!(server.journal.open_requests(), 0);
    assert_eq!(server.journal.receipts()[0].ending, Some(Ending::Stopped));
    // Both connections have ended, by a close or a reset, and no byte was sent.
    assert!(hanging.rest().await.0.is_empty());
    assert!(idle.rest().await.0.is_empty());
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn dropped_receiver_stops() {
    let server = Server::always(Behavior::Hang { hold_ms: 600_000 }).await;
    let mut changed = server.journal.changed();
    let mut hanging = server.connect().await;
    hanging.send(&signed("/webhook/1", "e1", 1, b"{}")).await;
    within(changed.changed()).await.unwrap();
    drop(server.receiver);
    within(changed.wait_for(|changes| *changes >= 2)).await.unwrap();
    assert_eq!(server.journal.receipts()[0].ending, Some(Ending::Stopped));
}

#[tokio::test]
async fn health_check_fails_after_the_stop() {
    let server = Server::always(Behavior::answer(200)).await;
    let address = server.receiver.address();
    health::check(address).await.unwrap();
    within(server.receiver.stop()).await;
    health::check(address).await.unwrap_err();
}
