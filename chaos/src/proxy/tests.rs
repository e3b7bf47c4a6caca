#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::collections::BTreeSet;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

/// Far above the time that loopback needs. It only ends a test that hangs.
const TEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Starts a listener and a link to it.
async fn link(protocol: Protocol) -> (Proxy, TcpListener) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap(), protocol).unwrap();
    (proxy, listener)
}

/// Opens a connection over the link, sends one byte in each direction, and returns both ends.
async fn connected(proxy: &Proxy, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    passes(&mut client, &mut server, b"?").await;
    passes(&mut server, &mut client, b"!").await;
    (client, server)
}

async fn passes(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]) {
    from.write_all(bytes).await.unwrap();
    let mut got = vec![0; bytes.len()];
    let read = to.read_exact(&mut got);
    timeout(TEST_TIMEOUT, read).await.expect("bytes pass").unwrap();
    assert_eq!(got, bytes);
}

async fn is_reset(mut stream: TcpStream) -> Vec<u8> {
    let mut got = Vec::new();
    let read = stream.read_to_end(&mut got);
    let error = timeout(TEST_TIMEOUT, read).await.expect("it ends").expect_err("a reset");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    got
}

#[tokio::test]
async fn late_bytes_arrive_and_are_counted() {
    let late = Control::Late { delay_ms: 1, jitter_ms: 2 };
    let slow = Control::Slow { bytes_per_ms: 2 };
    for control in [late, slow] {
        let (proxy, listener) = link(Protocol::Bytes).await;
        let (mut client, mut server) = connected(&proxy, &listener).await;
        proxy.set(control);
        passes(&mut client, &mut server, b"late").await;
        let effects = proxy.effects();
        assert_eq!(effects.connections, BTreeSet::from([1]));
        assert!(effects.late_pieces >= 1, "{control:?}: {effects:?}");
        let late_bytes = if control == slow { 4 } else { 0 };
        assert_eq!(effects.late_bytes, late_bytes, "{control:?}");
    }
}

#[tokio::test]
async fn end_of_one_direction_leaves_the_other_open() {
    let (proxy, listener) = link(Protocol::Bytes).await;
    let (mut client, mut server) = connected(&proxy, &listener).await;
    client.shutdown().await.unwrap();
    let mut rest = Vec::new();
    server.read_to_end(&mut rest).await.unwrap();
    passes(&mut server, &mut client, b"answer").await;
}

#[tokio::test]
async fn black_hole_hides_bytes_and_ends_and_resets_later() {
    let (proxy, listener) = link(Protocol::Bytes).await;
    let (mut client, server) = connected(&proxy, &listener).await;
    proxy.set(Control::BlackHole);
    let mut fresh = TcpStream::connect(proxy.address()).await.unwrap();
    client.write_all(b"lost").await.unwrap();
    fresh.write_all(b"lost, too").await.unwrap();
    client.shutdown().await.unwrap();
    let swallowed = proxy.sees(TEST_TIMEOUT, |effects| effects.swallowed_bytes == 13);
    assert!(swallowed.await, "{:?}", proxy.effects());
    assert_eq!(proxy.effects().connections, BTreeSet::from([1, 2]));
    proxy.set(Control::Pass);
    assert_eq!(is_reset(server).await, b"");
    assert_eq!(is_reset(fresh).await, b"");
}

#[tokio::test]
async fn swallow_affects_only_one_direction() {
    let (proxy, listener) = link(Protocol::Bytes).await;
    let (mut client, mut server) = connected(&proxy, &listener).await;
    proxy.set(Control::Swallow(Direction::Down));
    passes(&mut client, &mut server, b"request").await;
    server.write_all(b"answer").await.unwrap();
    let swallowed = proxy.sees(TEST_TIMEOUT, |effects| effects.swallowed_bytes == 6);
    assert!(swallowed.await, "{:?}", proxy.effects());
    passes(&mut client, &mut server, b"still open").await;
    proxy.set(Control::Pass);
    assert_eq!(is_reset(client).await, b"");
}

#[tokio::test]
async fn swallowed_direction_hides_the_end_of_its_sender() {
    let (proxy, listener) = link(Protocol::Bytes).await;
    let (mut client, server) = connected(&proxy, &listener).await;
    proxy.set(Control::Swallow(Direction::Down));
    server.set_zero_linger().expect("it is open");
    drop(server);
    let ended = proxy.sees(TEST_TIMEOUT, |effects| effects.connections.contains(&1));
    assert!(ended.await, "{:?}", proxy.effects());
    client.write_all(b"lost").await.expect("the connection looks open");
    let lost = proxy.sees(TEST_TIMEOUT, |effects| effects.swallowed_bytes == 4);
    assert!(lost.await, "{:?}", proxy.effects());
    proxy.set(Control::Pass);
    assert_eq!(is_reset(client).await, b"");
}

#[tokio::test]
async fn reset_comes_after_the_given_number_of_bytes() {
    let (proxy, listener) = link(Protocol::Bytes).await;
    let (mut client, mut server) = connected(&proxy, &listener).await;
    proxy.set(Control::ResetAt(Direction::Up, 3));
    passes(&mut server, &mut client, b"the other way passes").await;
    passes(&mut client, &mut server, b"ab").await;
    client.write_all(b"cdef").await.unwrap();
    // A reset may discard the last byte in the receiver's buffer, but it never adds one.
    let got = is_reset(server).await;
    assert!(b"c".starts_with(&got[..]), "{got:?}");
    assert_eq!(proxy.effects().resets, 1);
}

#[tokio::test]
async fn refusing_link_resets_refuses_and_reopens_its_port() {
    let (proxy, listener) = link(Protocol::Bytes).await;
    let (client, server) = connected(&proxy, &listener).await;
    proxy.set(Control::Refuse);
    is_reset(client).await;
    is_reset(server).await;
    let refused = async {
        loop {
            match TcpStream::connect(proxy.address()).await {
                Err(error) => return error.kind(),
                Ok(stream) => drop(stream),
            }
        }
    };
    let kind = timeout(TEST_TIMEOUT, refused).await.unwrap();
    assert_eq!(kind, io::ErrorKind::ConnectionRefused);
    proxy.set(Control::Pass);
    let back = async {
        loop {
            if let Ok(stream) = TcpStream::connect(proxy.address()).await {
                return stream;
            }
            tokio::task::yield_now().await;
        }
    };
    let mut client = timeout(TEST_TIMEOUT, back).await.unwrap();
    client.write_all(b"back").await.unwrap();
    timeout(TEST_TIMEOUT, listener.accept()).await.unwrap().unwrap();
}

#[tokio::test]
async fn stalled_bytes_are_forwarded_after_the_stall() {
    let (proxy, listener) = link(Protocol::Bytes).await;
    let (mut client, mut server) = connected(&proxy, &listener).await;
    proxy.set(Control::Stall);
    client.write_all(b"kept").await.unwrap();
    client.shutdown().await.unwrap();
    let kept = proxy.sees(TEST_TIMEOUT, |effects| effects.stalled.contains(&1));
    assert!(kept.await, "{:?}", proxy.effects());
    proxy.set(Control::Pass);
    let mut got = Vec::new();
    let read = server.read_to_end(&mut got);
    timeout(TEST_TIMEOUT, read).await.expect("it passes").expect("no reset");
    assert_eq!(got, b"kept");
    passes(&mut server, &mut client, b"answer").await;
}

#[tokio::test]
async fn half_open_connection_is_reset_only_for_the_server() {
    let (proxy, listener) = link(Protocol::Bytes).await;
    let (mut client, server) = connected(&proxy, &listener).await;
    proxy.set(Control::HalfOpen);
    assert_eq!(is_reset(server).await, b"");
    client.write_all(b"lost").await.expect("the connection looks open");
    let swallowed = proxy.sees(TEST_TIMEOUT, |effects| effects.swallowed_bytes == 4);
    assert!(swallowed.await, "{:?}", proxy.effects());
    proxy.set(Control::Pass);
    assert_eq!(is_reset(client).await, b"");
}

#[tokio::test]
async fn reset_after_a_control_is_not_an_effect_of_the_next() {
    let (proxy, listener) = link(Protocol::Postgres).await;
    let (mut client, _server) = connected(&proxy, &listener).await;
    proxy.set(Control::BlackHole);
    client.write_all(b"lost").await.unwrap();
    let swallowed = proxy.sees(TEST_TIMEOUT, |effects| effects.swallowed_bytes == 4);
    assert!(swallowed.await, "{:?}", proxy.effects());
    proxy.set(Control::CutCommit(Statement::Insert));
    assert_eq!(is_reset(client).await, b"");
    assert_eq!(proxy.effects(), Effects::default());
}

#[tokio::test]
async fn control_can_apply_to_one_connection() {
    let (proxy, listener) = link(Protocol::Bytes).await;
    let (mut one, mut of_one) = connected(&proxy, &listener).await;
    let (mut other, mut of_other) = connected(&proxy, &listener).await;
    let port = of_one.peer_addr().unwrap().port();
    proxy.set_on(port, Control::Swallow(Direction::Down));
    passes(&mut other, &mut of_other, b"request").await;
    passes(&mut of_other, &mut other, b"answer").await;
    passes(&mut one, &mut of_one, b"request").await;
    of_one.write_all(b"answer").await.unwrap();
    let swallowed = proxy.sees(TEST_TIMEOUT, |effects| effects.swallowed_bytes == 6);
    assert!(swallowed.await, "{:?}", proxy.effects());
    assert_eq!(proxy.effects().connections, BTreeSet::from([1]));
}

#[tokio::test]
async fn new_upstream_applies_to_new_connections() {
    let (proxy, listener) = link(Protocol::Bytes).await;
    let (mut client, mut server) = connected(&proxy, &listener).await;
    let (_, other) = link(Protocol::Bytes).await;
    proxy.set_upstream(other.local_addr().unwrap());
    let (_client, _server) = connected(&proxy, &other).await;
    passes(&mut client, &mut server, b"still there").await;
}

/// Bytes of the client of a Postgres link and of its server for one insert.
const INSERT: &[u8] = b"\0\0\0\x08\0\x03\0\0Q\0\0\0\x1finsert into webhook_events\0";
const INSERTED: &[u8] = b"C\0\0\0\x0fINSERT 0 1\0";
const READY: &[u8] = b"Z\0\0\0\x05I";

#[tokio::test]
async fn postgres_link_reports_sent_and_committed_statements() {
    let (proxy, listener) = link(Protocol::Postgres).await;
    let mut passed = proxy.passed();
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    passes(&mut client, &mut server, INSERT).await;
    passes(&mut server, &mut client, INSERTED).await;
    passes(&mut server, &mut client, READY).await;
    assert_eq!(passed.recv().await.unwrap(), Passed::Sent(Statement::Insert));
    let next = passed.recv().await.unwrap();
    assert_eq!(next, Passed::Committed(Statement::Insert));
}

#[tokio::test]
async fn commit_is_cut_once_before_its_reply() {
    let (proxy, listener) = link(Protocol::Postgres).await;
    proxy.set(Control::CutCommit(Statement::Insert));
    for is_cut in [true, false] {
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        passes(&mut client, &mut server, INSERT).await;
        server.write_all(INSERTED).await.unwrap();
        server.write_all(READY).await.unwrap();
        if is_cut {
            assert_eq!(is_reset(client).await, b"");
            assert_eq!(proxy.effects().cut, Some(Statement::Insert));
        } else {
            let mut got = vec![0; INSERTED.len() + READY.len()];
            let read = client.read_exact(&mut got);
            timeout(TEST_TIMEOUT, read).await.unwrap().unwrap();
        }
    }
}
