//! Unreachable targets: the outcome of each class. Each counts as a failed attempt.

use std::net::{Ipv4Addr, SocketAddr};

use dispatcher::Role;
use serde_json::Value;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::{ONCE, sent};
use crate::support::app::App;
use crate::support::db;
use crate::support::names::NameServer;
use crate::support::process::Processes;
use crate::support::raw::RawReceiver;
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

/// A port whose accept queue is full, so the kernel drops further SYN packets without a response.
struct Silent {
    address: SocketAddr,
    _listener: TcpListener,
    _queue: Vec<TcpStream>,
}

impl Silent {
    async fn start(port: u16) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        // A client of another test may use the port.
        socket.set_reuseaddr(true).unwrap();
        socket.bind(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queue = Vec::new();
        let wait = std::time::Duration::from_millis(300);
        while let Ok(stream) = tokio::time::timeout(wait, TcpStream::connect(address)).await {
            queue.push(stream.unwrap());
            assert!(queue.len() < 100, "the accept queue does not fill up");
        }
        Self { address, _listener: listener, _queue: queue }
    }
}

#[tokio::test]
async fn full_accept_queue_has_outcome_timeout() {
    let silent = Silent::start(0).await;
    let app = App::start(&[ONCE, ("HTTP_TIMEOUT", "0.5")]).await;
    let event = sent(&app, &format!("http://{}/", silent.address)).await;
    assert_eq!(outcomes(&event), ["timeout"], "{event:#}");
    let error = attempts(&event)[0]["error"].as_str().unwrap();
    let phase = format!("connecting to {}", silent.address);
    assert!(error.ends_with(&phase), "{error}");
    app.stop().await;
}

// Half of the events begin with the silent address.
#[tokio::test]
async fn silent_address_does_not_fail_an_attempt() {
    const HEALTHY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
    let names = NameServer::start(|_, _| Some(vec![Ipv4Addr::LOCALHOST, HEALTHY])).await;
    let Some(names) = names else {
        return;
    };
    let response = "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
    let receiver = RawReceiver::start_at(HEALTHY, move |_| response.into()).await;
    let _silent = Silent::start(receiver.address.port()).await;
    let database = db::database().await;
    let app = App::over(&database, Role::Api, &[]).await;
    let mut processes = Processes::new(names.system());
    processes.start("dialing", &database, &[ONCE]).await;
    let target = format!("http://pair.test:{}/", receiver.address.port());
    for _ in 0..6 {
        let event = sent(&app, &target).await;
        assert_eq!(outcomes(&event), ["delivered"], "{event:#}");
    }
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
    let cases = [("silent", "timeout"), ("unknown", "dns"), ("refused", "target_refused")];
    for (name, outcome) in cases {
        let event = sent(&app, &format!("http://{name}.test/")).await;
        assert_eq!(outcomes(&event), [outcome], "{event:#}");
    }
    app.stop().await;
}
