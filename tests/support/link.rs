//! A link between the dispatcher and its database that a test can cut, stall, or rob of a reply.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::app::PATIENCE;

/// What Postgres says, after the commit, of an insert of one row.
const INSERTED: &[u8] = b"INSERT 0 1\0";

/// What the link does with bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Passes them on.
    Pass,
    /// Cuts every connection, and each new one at once.
    Cut,
    /// Passes nothing in either direction, and keeps connections open.
    Stall,
    /// Passes everything but the reply to a committed insert: there the connection is cut.
    LoseCommits,
    /// Swallows what the server says on one connection, known by the port from which the server sees it come, and even
    /// that it has ended: its client goes on believing in it.
    HalfOpen(u16),
    /// Passes so many bytes a millisecond of what the server says on a connection.
    Slow(u32),
}

/// A link on loopback; dropping it cuts everything.
pub(crate) struct Link {
    state: watch::Sender<(Mode, SocketAddr)>,
    held: watch::Sender<usize>,
    accepting: JoinHandle<()>,
}

impl Link {
    /// A link to the server of a database's URL, and the URL that leads over the link.
    pub(crate) async fn to(database: &str) -> (Self, String) {
        let upstream = server_of(database);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (state, seen) = watch::channel((Mode::Pass, upstream));
        let held = watch::Sender::new(0);
        let accepting = tokio::spawn(accept(listener, seen, held.clone()));
        let url = database.replacen(&upstream.to_string(), &address.to_string(), 1);
        let link = Self {
            state,
            held,
            accepting,
        };
        (link, url)
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.held.send_replace(0);
        self.state.send_modify(|state| state.0 = mode);
    }

    /// Waits until what clients say is held back on so many connections.
    pub(crate) async fn holds(&self, connections: usize) {
        let mut held = self.held.subscribe();
        let waited = timeout(PATIENCE, held.wait_for(|held| *held >= connections)).await;
        assert!(waited.is_ok(), "never were so many connections held back");
    }

    /// Leads to another server from the next connection on.
    pub(crate) fn lead_to(&self, database: &str) {
        self.state
            .send_modify(|state| state.1 = server_of(database));
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.abort();
        self.set(Mode::Cut);
    }
}

fn server_of(database: &str) -> SocketAddr {
    let authority = database.split('/').nth(2).expect("a URL");
    let server = authority.rsplit('@').next().expect("an authority");
    server
        .parse()
        .expect("harness URLs name an address and a port")
}

async fn accept(
    listener: TcpListener,
    seen: watch::Receiver<(Mode, SocketAddr)>,
    held: watch::Sender<usize>,
) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            return;
        };
        tokio::spawn(carry(client, seen.clone(), held.clone()));
    }
}

async fn carry(
    client: TcpStream,
    mut seen: watch::Receiver<(Mode, SocketAddr)>,
    held: watch::Sender<usize>,
) {
    let (mode, upstream) = *seen.borrow_and_update();
    if mode == Mode::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect(upstream).await else {
        return;
    };
    let half_open = server
        .local_addr()
        .ok()
        .map(|address| Mode::HalfOpen(address.port()));
    let ((from_client, to_client), (from_server, to_server)) =
        (client.into_split(), server.into_split());
    tokio::select! {
        () = pump(from_client, to_server, seen.clone(), None, Some(held)) => {}
        () = pump(from_server, to_client, seen.clone(), half_open, None) => {}
        _ = seen.wait_for(|(mode, _)| *mode == Mode::Cut) => {}
    }
}

/// Carries one direction until it ends; what swallows it is given for what the server says, where it is told that it is
/// held for what a client says.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut seen: watch::Receiver<(Mode, SocketAddr)>,
    half_open: Option<Mode>,
    held: Option<watch::Sender<usize>>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(bytes @ 1..) = from.read(&mut buffer).await {
        if let Some(held) = held.as_ref().filter(|_| seen.borrow().0 == Mode::Stall) {
            held.send_modify(|held| *held += 1);
        }
        let passing = seen.wait_for(|(mode, _)| *mode != Mode::Stall).await;
        let Ok(mode) = passing.map(|state| state.0) else {
            return;
        };
        if half_open == Some(mode) {
            continue;
        }
        let confirms = buffer[..bytes]
            .windows(INSERTED.len())
            .any(|window| window == INSERTED);
        if half_open.is_some() && confirms && mode == Mode::LoseCommits {
            return;
        }
        if to.write_all(&buffer[..bytes]).await.is_err() {
            return;
        }
        if let (Some(_), Mode::Slow(rate)) = (half_open, mode) {
            let millisecond = Duration::from_millis(1);
            tokio::time::sleep(millisecond * u32::try_from(bytes).unwrap_or(u32::MAX) / rate).await;
        }
    }
    // The end is swallowed as well.
    if let Some(half_open) = half_open {
        let _ = seen.wait_for(|(mode, _)| *mode != half_open).await;
    }
}
