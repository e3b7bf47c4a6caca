//! The raw socket of one peer. Every wait has a limit.
//!
//! Bytes of the next, pipelined request are kept. This module does not depend on HTTP.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// Maximum number of bytes that are read ahead during a response.
const AHEAD_BYTES_MAX: usize = 64 * 1024;

/// Maximum number of bytes of one read.
const READ_BYTES_MAX: usize = 64 * 1024;

/// Time limit of one send, which waits if the peer does not read.
const SEND_TIMEOUT: Duration = Duration::from_secs(300);

/// Time limit for reading from a peer after the close. A socket that is closed with unread bytes
/// sends a reset, which can destroy the response.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum number of bytes that are read after the close.
const CLOSE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The peer has closed the connection, or a write has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

/// One connection with the bytes that were received and not taken.
pub(crate) struct Peer {
    stream: TcpStream,
    ahead: BytesMut,
}

impl Peer {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, ahead: BytesMut::new() }
    }

    /// Returns the bytes that were received and not taken.
    pub(crate) fn ahead(&self) -> &[u8] {
        &self.ahead
    }

    /// Takes at most the first `count` received bytes.
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

    /// Sends `bytes`.
    ///
    /// # Errors
    /// If a write fails or takes longer than 300 s.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        // Most responses fit in the socket's buffer. They need no timer.
        let sent = match self.stream.try_write(bytes) {
            Ok(sent) => sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(_) => return Err(Gone),
        };
        if sent == bytes.len() {
            return Ok(());
        }
        match timeout(SEND_TIMEOUT, self.stream.write_all(&bytes[sent..])).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Gone),
        }
    }

    /// Waits for `duration`. Returns an error if the peer closes the connection first.
    pub(crate) async fn pause(&mut self, duration: Duration) -> Result<(), Gone> {
        if duration.is_zero() {
            return Ok(());
        }
        match timeout(duration, self.wait_closed()).await {
            Ok(()) => Err(Gone),
            Err(_) => Ok(()),
        }
    }

    /// Waits until the peer closes the connection.
    async fn wait_closed(&mut self) {
        while self.ahead.len() < AHEAD_BYTES_MAX {
            if self.fill().await.is_err() {
                return;
            }
        }
        // The read-ahead buffer is full, so a close cannot be detected. The caller's limit ends the
        // wait.
        sleep(Duration::MAX).await;
    }

    /// Closes the connection in an orderly way: the peer receives all sent bytes before the end.
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
        // After the limit the socket is closed even if the peer has not closed its side.
        let _cut_off = timeout(CLOSE_TIMEOUT, drain).await;
    }

    /// Resets the connection. Bytes that are still in the socket's buffer are discarded.
    pub(crate) fn reset(self) {
        if let Err(error) = self.stream.set_zero_linger() {
            tracing::warn!(%error, "reset failed, closing the connection");
        }
    }
}
