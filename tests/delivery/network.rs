//! Unreachable targets: the outcome of each class. Each counts as a failed attempt.

use std::net::Ipv4Addr;

use dispatcher::Role;
use serde_json::Value;
use tokio::net::{TcpListener, TcpSocket};

use super::{ONCE, sent};
use crate::support::app::App;
use crate::support::db;
use crate::support::names::NameServer;
use crate::support::process::Processes;
use crate::support::view::{attempts, outcomes};

/// URL of a port on which no process listens.
async fn closed() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}/", listener.local_addr().unwrap())
}

#[tokio::test]
async fn refused_connection_has_outcome_connect() {
    let app = App::start(&[("MAX_ATTEMPTS", "2")]).await;
    let plain = closed().await;
    for target in [plain.clone(), plain.replace("http:", "https:")] {
        let event = sent(&app, &target).await;
        assert_eq!(outcomes(&event), ["connect", "connect"], "{event:#}");
        for attempt in attempts(&event) {
            assert_eq!(attempt["status_code"], Value::Null);
            assert_eq!(attempt["response"], Value::Null);
        }
    }
    app.stop().await;
}

// The first label is longer than DNS permits, so the lookup fails without a query.
#[tokio::test]
async fn invalid_host_name_has_outcome_dns() {
    let app = App::start(&[ONCE]).await;
    let event = sent(&app, &format!("http://{}.example/", "a".repeat(64))).await;
    assert_eq!(outcomes(&event), ["dns"], "{event:#}");
    app.stop().await;
}

// The accept queue is full, so the kernel drops further SYN packets without a response.
#[tokio::test]
async fn full_accept_queue_has_outcome_timeout() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut full = Vec::new();
    let wait = std::time::Duration::from_millis(300);
    while let Ok(stream) = tokio::time::timeout(wait, tokio::net::TcpStream::connect(address)).await
    {
        full.push(stream.unwrap());
        assert!(full.len() < 100, "the accept queue does not fill up");
    }
    let app = App::start(&[ONCE, ("HTTP_TIMEOUT", "0.5")]).await;
    let event = sent(&app, &format!("http://{address}/")).await;
    assert_eq!(outcomes(&event), ["timeout"], "{event:#}");
    app.stop().await;
}

#[tokio::test]
async fn unknown_name_is_dns_and_silent_dns_server_is_timeout() {
    let names = NameServer::start(|name, _| match name {
        "silent.test" => None,
        "refused.test" => Some(vec![Ipv4Addr::new(10, 0, 0, 1)]),
        _ => Some(Vec::new()),
    });
    let Some(names) = names.await else {
        return;
    };
    let database = db::database().await;
    let app = App::over(&database, Role::Api, &[]).await;
    let mut processes = Processes::new(names.system());
    let own = [ONCE, ("HTTP_TIMEOUT", "1")];
    processes.start("resolving", &database, &own).await;
    let cases = [
        ("silent", "timeout"),
        ("unknown", "dns"),
        ("refused", "target_refused"),
    ];
    for (name, outcome) in cases {
        let event = sent(&app, &format!("http://{name}.test/")).await;
        assert_eq!(outcomes(&event), [outcome], "{event:#}");
    }
    app.stop().await;
}
