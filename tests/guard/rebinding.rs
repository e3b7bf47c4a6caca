//! Names that change their mind: what was looked at is what is dialled, so there is no moment in between to use.

use std::net::{Ipv4Addr, TcpListener};

use dispatcher::Role;

use crate::support::app::App;
use crate::support::db;
use crate::support::names::NameServer;
use crate::support::process::Processes;
use crate::support::raw::Canned;

/// Stands for a public address: the list names it alone.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 1);
/// Stands for what must not be reached.
const INSIDE: Ipv4Addr = Ipv4Addr::LOCALHOST;

const ANSWER: &str = "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";

// Each answer differs from the one before, so a check of one and a dial of another would soon reach the inside. The receiver
// outside closes after each request: no delivery can go over a connection that is there already.
#[tokio::test]
async fn a_name_that_changes_between_look_and_dial_never_leads_inside() {
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
    let outside = Canned::start_at(OUTSIDE, |_| ANSWER.into()).await;
    let port = outside.address.port();
    let inside = TcpListener::bind((INSIDE, port)).expect("the same port, inside");
    inside.set_nonblocking(true).expect("a socket");

    let database = db::database().await;
    let app = App::over(&database, Role::Api, &[]).await;
    let mut ids = Vec::new();
    for n in 0..30 {
        let name = if n % 3 == 0 {
            "mixed.test"
        } else {
            "rebinding.test"
        };
        ids.push(app.accept("1", &format!("http://{name}:{port}/")).await);
    }
    let mut processes = Processes::new(names.system());
    let own = [
        ("ALLOWED_TARGET_CIDRS", "127.77.0.1"),
        ("MAX_ATTEMPTS", "100"),
        // Attempts at one name that are under way together share an answer.
        ("MAX_IN_FLIGHT", "1"),
    ];
    processes.start("guarded", &database, &own).await;

    let mut refused = 0;
    for id in &ids {
        let event = app.event_when(id, "delivered").await;
        for attempt in event["attempts"].as_array().unwrap() {
            match attempt["outcome"].as_str().unwrap() {
                "delivered" => {}
                "target_refused" => refused += 1,
                other => panic!("{other}: {event:#}"),
            }
        }
    }
    assert!(refused > 0, "no name changed, or this proves nothing");
    assert_eq!(outside.requests().len(), ids.len());
    let reached = inside
        .accept()
        .map(|(_, peer)| peer)
        .map_err(|error| error.kind());
    assert_eq!(
        reached,
        Err(std::io::ErrorKind::WouldBlock),
        "somebody came inside"
    );
    app.stop().await;
}
