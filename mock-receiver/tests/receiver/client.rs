//! Fixtures: a running receiver, requests signed by an independent implementation, and a raw
//! client.

use std::future::Future;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use chrono::Utc;
use mock_receiver::script::always;
use mock_receiver::{Behavior, Journal, Receipt, Receiver, Script, Secrets};
use standardwebhooks::Webhook;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A text secret: its key is its bytes, which the independent implementation accepts too.
pub(crate) const SECRET: &str = "a secret for tests";

/// Far above the time that a test needs. It only ends a test that hangs.
const TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Waits for a future and panics after [`TEST_TIMEOUT`].
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(TEST_TIMEOUT, future).await.expect("the test timed out")
}

/// A receiver on a free port, and its journal.
pub(crate) struct Server {
    pub(crate) receiver: Receiver,
    pub(crate) journal: Journal,
}

impl Server {
    pub(crate) async fn start(script: Script, journal: Journal) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let secrets = Secrets::parse(SECRET).unwrap();
        let receiver = Receiver::start(listener, secrets, script, journal.clone());
        Self { receiver, journal }
    }

    pub(crate) async fn always(behavior: Behavior) -> Self {
        Self::start(always(behavior), Journal::new()).await
    }

    pub(crate) async fn connect(&self) -> Client {
        Client::connect(self.receiver.address()).await
    }

    /// Waits until at least `count` requests have ended and none is open, and returns the receipts.
    pub(crate) async fn receipts(&self, count: u64) -> Vec<Receipt> {
        let mut changed = self.journal.changed();
        within(async {
            while self.journal.counts().ended < count || self.journal.open_requests() > 0 {
                changed.changed().await.unwrap();
            }
        })
        .await;
        self.journal.receipts()
    }
}

/// Returns a request to `path` that is signed with the current time.
pub(crate) fn signed(path: &str, id: &str, attempt: u32, body: &[u8]) -> Vec<u8> {
    let length = format!("content-length: {}\r\n", body.len());
    let mut request = signed_head(path, id, attempt, body, &length);
    request.extend_from_slice(body);
    request
}

/// Returns a head that signs `body` and contains additional header lines.
pub(crate) fn signed_head(path: &str, id: &str, attempt: u32, body: &[u8], lines: &str) -> Vec<u8> {
    let timestamp = Utc::now().timestamp();
    let signature = sign(SECRET.as_bytes(), id, timestamp, body);
    format!(
        "POST {path} HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n\
         webhook-id: {id}\r\nwebhook-timestamp: {timestamp}\r\nwebhook-signature: {signature}\r\n\
         webhook-attempt: {attempt}\r\n{lines}\r\n"
    )
    .into_bytes()
}

/// Returns the signature header of the independent implementation.
pub(crate) fn sign(key: &[u8], id: &str, timestamp: i64, body: &[u8]) -> String {
    Webhook::from_bytes(key.to_vec()).unwrap().sign(id, timestamp, body).unwrap()
}

/// A raw connection to the receiver.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    read: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = within(TcpStream::connect(address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, read: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        within(self.stream.write_all(bytes)).await.unwrap();
    }

    /// Reads one response with a content length and returns its status and body.
    pub(crate) async fn response(&mut self) -> (u16, Vec<u8>) {
        let head = self.read_until_empty_line().await;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |length| length.parse().unwrap());
        while self.read.len() < length {
            assert_ne!(self.more().await, 0, "the connection ended within the response");
        }
        (status, self.read.drain(..length).collect())
    }

    pub(crate) async fn read_until_empty_line(&mut self) -> String {
        loop {
            if let Some(at) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = self.read.drain(..at + 4).collect();
                return String::from_utf8(head).unwrap();
            }
            assert_ne!(self.more().await, 0, "the connection ended within the head");
        }
    }

    pub(crate) async fn more(&mut self) -> usize {
        within(self.stream.read_buf(&mut self.read)).await.unwrap()
    }

    /// Reads until the connection ends. Returns the bytes, and true if it ended with a reset.
    pub(crate) async fn rest(&mut self) -> (Vec<u8>, bool) {
        let end = within(self.stream.read_to_end(&mut self.read)).await;
        let reset = match end {
            Ok(_) => false,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                true
            }
        };
        (std::mem::take(&mut self.read), reset)
    }
}
