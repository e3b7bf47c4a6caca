//! DNS rebinding: the address that was checked is the address that is dialed.

use std::net::{Ipv4Addr, TcpListener};

use dispatcher::Role;

use crate::support::app::App;
use crate::support::db;
use crate::support::names::NameServer;
use crate::support::process::Processes;
use crate::support::raw::RawReceiver;

/// Plays a public address: the only one that the setting allows.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 1);
/// Plays an internal address, which must not be reached.
const INSIDE: Ipv4Addr = Ipv4Addr::LOCALHOST;

const RESPONSE: &str = "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";

// The DNS response alternates. If the check and the dial used separate lookups, a dial would soon
// reach the internal address. The public receiver closes each connection, so that every delivery
// needs a new dial.
#[tokio::test]
async fn name_that_changes_between_lookups_is_never_dialed_inside() {
    let names = NameServer::start(|name, number| {
        Some(match (name, number % 2) {
            ("mixed.test", _) => vec![INSIDE, OUTSIDE],
            ("rebinding.test", 0) => vec![OUTSIDE],
            ("rebinding.test", _) => vec![INSIDE],
            _ => Vec::new(),
        })
    });
    let Some(names) = names.await else {
        return;
    };
    let outside = RawReceiver::start_at(OUTSIDE, |_| RESPONSE.into()).await;
    let port = outside.address.port();
    let inside =
        TcpListener::bind((INSIDE, port)).expect("the port is free on the internal address");
    inside.set_nonblocking(true).expect("the socket can be non-blocking");

    let database = db::database().await;
    let app = App::over(&database, Role::Api, &[]).await;
    let mut ids = Vec::new();
    for n in 0..30 {
        let name = if n % 3 == 0 { "mixed.test" } else { "rebinding.test" };
        ids.push(app.accept("1", &format!("http://{name}:{port}/")).await);
    }
    let mut processes = Processes::new(names.system());
    let own = [
        ("ALLOWED_TARGET_CIDRS", "127.77.0.1"),
        ("MAX_ATTEMPTS", "100"),
        // Concurrent attempts for one name share a lookup, so only one attempt is in flight.
        ("MAX_IN_FLIGHT", "1"),
    ];
    processes.start("guarded", &database, &own).await;

    let mut refused = 0;
    for id in &ids {
        let event = app.event_with_status(id, "delivered").await;
        for attempt in event["attempts"].as_array().unwrap() {
            match attempt["outcome"].as_str().unwrap() {
                "delivered" => {}
                "target_refused" => refused += 1,
                other => panic!("{other}: {event:#}"),
            }
        }
    }
    assert!(refused > 0, "no lookup returned the internal address");
    assert_eq!(outside.requests().len(), ids.len());
    let reached = inside.accept().map(|(_, peer)| peer).map_err(|error| error.kind());
    assert_eq!(reached, Err(std::io::ErrorKind::WouldBlock), "the internal address was dialed");
    app.stop().await;
}
