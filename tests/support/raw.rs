//! Raw sockets, for bytes that an HTTP library would never send.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::app::WAIT_MAX;

/// Time that a [`RawReceiver`] waits for its client to close.
const CLOSE_WAIT_MAX: Duration = Duration::from_secs(1);

/// Limit for a head and for a body. It only ends a failing test.
const BYTES_MAX: usize = 4 << 20;

/// A TCP connection to a dispatcher.
pub(crate) struct Connection(TcpStream);

/// A response with its head as received.
#[derive(Debug)]
pub(crate) struct RawResponse {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl RawResponse {
    /// The body as JSON, or null if it is not JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Value of the first header with this name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the dispatcher listens");
        stream.set_nodelay(true).expect("the option exists for TCP");
        Self(stream)
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let sent = timeout(WAIT_MAX, self.0.write_all(bytes.as_ref())).await;
        sent.expect("the dispatcher reads").expect("the connection is open");
    }

    /// Sends each byte in a separate segment.
    pub(crate) async fn drip(&mut self, bytes: impl AsRef<[u8]>) {
        for byte in bytes.as_ref() {
            self.send([*byte]).await;
            tokio::task::yield_now().await;
        }
    }

    /// Closes the sending side. The response can still be read.
    pub(crate) async fn end(&mut self) {
        self.0.shutdown().await.expect("the connection is open");
    }

    /// The next response, or `None` if the dispatcher closes the connection instead.
    pub(crate) async fn response(&mut self) -> Option<RawResponse> {
        let read = timeout(WAIT_MAX, read_one(&mut self.0)).await;
        let (head, body) = read.expect("the dispatcher responds or closes")?;
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.expect("the head has a status line");
        Some(RawResponse { status, head, body })
    }
}

/// A request that a [`RawReceiver`] has read.
#[derive(Clone, Debug)]
pub(crate) struct Captured {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Captured {
    /// Value of the first header with this name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

/// A receiver that reads each request, responds with given bytes and closes the connection.
pub(crate) struct RawReceiver {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<Captured>>>,
    serving: JoinHandle<()>,
}

impl RawReceiver {
    /// `response` returns the bytes for the request with the given number, counted from 1.
    pub(crate) async fn start(response: impl Fn(usize) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST, response).await
    }

    /// Starts the receiver at another loopback address.
    pub(crate) async fn start_at(
        address: Ipv4Addr,
        response: impl Fn(usize) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((address, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("the listener is bound");
        let requests = Arc::<Mutex<Vec<Captured>>>::default();
        let seen = Arc::clone(&requests);
        let serving = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let Some((head, body)) = read_one(&mut stream).await else {
                    continue;
                };
                let number = {
                    let mut seen = seen.lock().expect("no code panics while it holds the lock");
                    seen.push(Captured { head, body });
                    seen.len()
                };
                // The client may have closed the connection already.
                let _ = stream.write_all(&response(number)).await;
                let _ = stream.shutdown().await;
                // Closing with unread bytes would send a reset.
                let mut rest = tokio::io::sink();
                let drained = tokio::io::copy(&mut stream, &mut rest);
                let _ = timeout(CLOSE_WAIT_MAX, drained).await;
            }
        });
        Self { address, requests, serving }
    }

    /// Responds with the same bytes to every request.
    pub(crate) async fn responding_with(response: impl Into<Vec<u8>>) -> Self {
        let response = response.into();
        Self::start(move |_| response.clone()).await
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<Captured> {
        let requests = self.requests.lock();
        requests.expect("no code panics while it holds the lock").clone()
    }
}

impl Drop for RawReceiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Reads a head and a body of its `content-length`. Returns `None` if the peer closes first.
pub(crate) async fn read_one(stream: &mut (impl AsyncRead + Unpin)) -> Option<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        assert!(head.len() < BYTES_MAX, "the head is longer than {BYTES_MAX} bytes");
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let length = header(&head, "content-length")
        .map_or(0, |length| length.parse().expect("content-length is a number"));
    assert!(length < BYTES_MAX, "the body is longer than {BYTES_MAX} bytes");
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((head, body))
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let mut named = fields.filter(|(field, _)| field.eq_ignore_ascii_case(name));
    named.next().map(|(_, value)| value.trim())
}
