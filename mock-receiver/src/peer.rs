//! The raw socket of one peer: what reads and behaviors may do with it, every wait bounded.
//!
//! Bytes that arrive early (a pipelined request) are kept, never lost. This module knows nothing
//! of HTTP.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// How many early bytes are read while an answer is under way.
const AHEAD_BYTES_MAX: usize = 64 * 1024;

/// How much is read at a time, at most.
const READ_BYTES_MAX: usize = 64 * 1024;

/// How long a peer may take to read what is sent to it.
const SEND_MAX: Duration = Duration::from_secs(300);

/// How long and how much is read from a peer that was closed, so that the close does not become a
/// reset which destroys the answer on its way.
const CLOSE_MAX: Duration = Duration::from_secs(1);
const CLOSE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The peer has ended the connection, or cannot be written to any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

/// One connection, with the bytes that have arrived and were not taken yet.
pub(crate) struct Peer {
    stream: TcpStream,
    ahead: BytesMut,
}

impl Peer {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            ahead: BytesMut::new(),
        }
    }

    /// What has arrived and was not taken.
    pub(crate) fn ahead(&self) -> &[u8] {
        &self.ahead
    }

    /// Takes the first `count` bytes of what has arrived.
    pub(crate) fn take(&mut self, count: usize) -> Bytes {
        self.ahead.split_to(count.min(self.ahead.len())).freeze()
    }

    /// Waits for more bytes and reads them.
    pub(crate) async fn fill(&mut self) -> Result<(), Gone> {
        if self.ahead.capacity() - self.ahead.len() < READ_BYTES_MAX / 16 {
            let more = self.ahead.len().clamp(READ_BYTES_MAX / 16, READ_BYTES_MAX);
            self.ahead.reserve(more);
        }
        match self.stream.read_buf(&mut self.ahead).await {
            Ok(0) | Err(_) => Err(Gone),
            Ok(_) => Ok(()),
        }
    }

    /// Sends all of `bytes`.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        // The common answer fits into the socket's buffer: no timer then.
        let sent = match self.stream.try_write(bytes) {
            Ok(sent) => sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(_) => return Err(Gone),
        };
        if sent == bytes.len() {
            return Ok(());
        }
        match timeout(SEND_MAX, self.stream.write_all(&bytes[sent..])).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Gone),
        }
    }

    /// Waits, unless the peer ends the connection first.
    pub(crate) async fn pause(&mut self, duration: Duration) -> Result<(), Gone> {
        if duration.is_zero() {
            return Ok(());
        }
        match timeout(duration, self.gone()).await {
            Ok(()) => Err(Gone),
            Err(_) => Ok(()),
        }
    }

    /// Waits until the peer ends the connection.
    async fn gone(&mut self) {
        while self.ahead.len() < AHEAD_BYTES_MAX {
            if self.fill().await.is_err() {
                return;
            }
        }
        // So much came early that its end can no longer be read: only the bound ends the wait.
        sleep(Duration::MAX).await;
    }

    /// Closes in an orderly way: what was sent arrives before the end does.
    pub(crate) async fn close(mut self) {
        let drain = async {
            if self.stream.shutdown().await.is_err() {
                return;
            }
            let mut drained = 0;
            while drained < CLOSE_BYTES_MAX && self.fill().await.is_ok() {
                drained += self.ahead.len();
                self.ahead.clear();
            }
        };
        // A peer that does not close its side is cut off, which is what the bound is for.
        let _cut_off = timeout(CLOSE_MAX, drain).await;
    }

    /// Resets: what was not yet taken by the network is thrown away.
    pub(crate) fn reset(self) {
        if let Err(error) = self.stream.set_zero_linger() {
            tracing::warn!(%error, "could not prepare a reset; the connection is closed instead");
        }
    }
}
