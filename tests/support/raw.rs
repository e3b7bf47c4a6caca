//! Plain sockets, for what a well-behaved HTTP client or server would never send.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::app::PATIENCE;

/// How long a [`Canned`] receiver waits for its peer to close.
const LINGER: Duration = Duration::from_secs(1);

/// A head or a body of a test is never longer.
const BYTES_MAX: usize = 4 << 20;

/// A connection to a dispatcher.
pub(crate) struct Connection(TcpStream);

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct RawAnswer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl RawAnswer {
    /// The body as JSON; null if it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("it listens");
        stream.set_nodelay(true).expect("a TCP stream");
        Self(stream)
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let sent = timeout(PATIENCE, self.0.write_all(bytes.as_ref())).await;
        sent.expect("the dispatcher reads").expect("it stays open");
    }

    /// One byte a segment.
    pub(crate) async fn drip(&mut self, bytes: impl AsRef<[u8]>) {
        for byte in bytes.as_ref() {
            self.send([*byte]).await;
            tokio::task::yield_now().await;
        }
    }

    /// Says that nothing more will come, and goes on listening.
    pub(crate) async fn end(&mut self) {
        self.0.shutdown().await.expect("it stays open");
    }

    /// The next answer, or nothing if the connection is closed instead.
    pub(crate) async fn answer(&mut self) -> Option<RawAnswer> {
        let read = timeout(PATIENCE, read_one(&mut self.0)).await;
        let (head, body) = read.expect("the dispatcher answers or closes")?;
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.expect("a status line");
        Some(RawAnswer { status, head, body })
    }
}

/// What a [`Canned`] receiver got.
#[derive(Clone, Debug)]
pub(crate) struct Captured {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Captured {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

/// A receiver that reads whole requests, answers each with bytes from a can, and closes.
pub(crate) struct Canned {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<Captured>>>,
    serving: JoinHandle<()>,
}

impl Canned {
    /// The can may differ by the number of the request, from 1.
    pub(crate) async fn start(can: impl Fn(usize) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST, can).await
    }

    /// The same at another address of this machine.
    pub(crate) async fn start_at(
        address: Ipv4Addr,
        can: impl Fn(usize) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((address, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let requests = Arc::<Mutex<Vec<Captured>>>::default();
        let seen = Arc::clone(&requests);
        let serving = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let Some((head, body)) = read_one(&mut stream).await else {
                    continue;
                };
                let number = {
                    let mut seen = seen.lock().expect("nothing panics while it is held");
                    seen.push(Captured { head, body });
                    seen.len()
                };
                // A peer that has had enough may be gone already.
                let _ = stream.write_all(&can(number)).await;
                let _ = stream.shutdown().await;
                // Closing on bytes that were not read would be a reset.
                let mut rest = tokio::io::sink();
                let drained = tokio::io::copy(&mut stream, &mut rest);
                let _ = timeout(LINGER, drained).await;
            }
        });
        Self {
            address,
            requests,
            serving,
        }
    }

    /// The same bytes for every request.
    pub(crate) async fn answering(can: impl Into<Vec<u8>>) -> Self {
        let can = can.into();
        Self::start(move |_| can.clone()).await
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<Captured> {
        let requests = self.requests.lock();
        requests.expect("nothing panics while it is held").clone()
    }
}

impl Drop for Canned {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A head and as much body as it announces; nothing if the peer closes first.
pub(crate) async fn read_one(stream: &mut (impl AsyncRead + Unpin)) -> Option<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        assert!(head.len() < BYTES_MAX, "a head without end");
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let length = header(&head, "content-length").map_or(0, |length| {
        length.parse().expect("a length is a number of bytes")
    });
    assert!(length < BYTES_MAX, "a body without end");
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((head, body))
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let mut named = fields.filter(|(field, _)| field.eq_ignore_ascii_case(name));
    named.next().map(|(_, value)| value.trim())
}
