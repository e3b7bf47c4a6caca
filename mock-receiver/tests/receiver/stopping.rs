//! A stopped receiver leaves nothing behind: no listener, no connection, no open request.

use mock_receiver::{Behavior, Ending, health};
use tokio::net::TcpStream;

use crate::client::{Server, signed, within};

#[tokio::test]
async fn stop_closes_the_listener_and_every_connection_and_ends_what_is_open() {
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
    // Whether by an end or by a reset: both are over, and nothing was sent.
    assert!(hanging.rest().await.0.is_empty());
    assert!(idle.rest().await.0.is_empty());
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_dropped_receiver_stops_by_itself() {
    let server = Server::always(Behavior::Hang { hold_ms: 600_000 }).await;
    let mut changed = server.journal.changed();
    let mut hanging = server.connect().await;
    hanging.send(&signed("/webhook/1", "e1", 1, b"{}")).await;
    within(changed.changed()).await.unwrap();
    drop(server.receiver);
    within(changed.wait_for(|changes| *changes >= 2))
        .await
        .unwrap();
    assert_eq!(server.journal.receipts()[0].ending, Some(Ending::Stopped));
}

#[tokio::test]
async fn the_health_check_tells_a_serving_receiver_from_a_stopped_one() {
    let server = Server::always(Behavior::answer(200)).await;
    let address = server.receiver.address();
    health::check(address).await.unwrap();
    within(server.receiver.stop()).await;
    health::check(address).await.unwrap_err();
}
