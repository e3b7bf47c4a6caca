//! Stream of a client that lingers before it closes.
//!
//! If the server closes while the client still sends, the kernel sends a reset, and the client may
//! lose the response that was sent before (RFC 9112, section 9.6). So the server ends its own side,
//! and reads and discards for a short time.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::connections::Connection;

/// Time limit for reading and discarding before a connection is closed.
const LINGER_MAX: Duration = Duration::from_secs(1);

/// Size of one discarded read.
const DISCARDED_BYTES: usize = 16 << 10;

pub(super) struct Lingering<S> {
    stream: Pin<Box<S>>,
    connection: Arc<Connection>,
    /// Present from the end of the sending side on.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<S> Lingering<S> {
    pub(super) fn new(stream: S, connection: Arc<Connection>) -> Self {
        Self { stream: Box::pin(stream), connection, deadline: None }
    }
}

impl<S: AsyncRead> AsyncRead for Lingering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(self.stream.as_mut().poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.connection.received();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite> AsyncWrite for Lingering<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream.as_mut().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream.as_mut().poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.deadline.is_none() {
            ready!(this.stream.as_mut().poll_shutdown(cx))?;
            if !this.connection.may_have_unread_bytes() {
                return Poll::Ready(Ok(()));
            }
        }
        let deadline = this.deadline.get_or_insert_with(|| Box::pin(sleep(LINGER_MAX)));
        let mut discarded = [MaybeUninit::uninit(); DISCARDED_BYTES];
        while deadline.as_mut().poll(cx).is_pending() {
            let mut buffer = ReadBuf::uninit(&mut discarded);
            ready!(this.stream.as_mut().poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::Instant;

    use super::*;
    use crate::api::connections::ConnectionLimiter;

    async fn open() -> (DuplexStream, Lingering<DuplexStream>) {
        let (client, server) = duplex(64);
        let connection = ConnectionLimiter::new(1).admit().await;
        (client, Lingering::new(server, connection))
    }

    // The client sends more than the pipe holds. It can do so only while the server reads.
    #[tokio::test(start_paused = true)]
    async fn unread_bytes_are_discarded_until_the_client_ends() {
        let (mut client, mut server) = open().await;
        client.write_all(b"head").await.unwrap();
        server.read_exact(&mut [0; 4]).await.unwrap();
        let sending = async {
            client.write_all(&[b'x'; 1 << 20]).await.unwrap();
            client.shutdown().await.unwrap();
        };
        let ending = async move { server.shutdown().await.unwrap() };
        let since = Instant::now();
        tokio::join!(ending, sending);
        assert!(since.elapsed().is_zero(), "the client had ended");
    }

    #[tokio::test(start_paused = true)]
    async fn endless_client_is_read_for_one_second() {
        let (mut client, mut server) = open().await;
        client.write_all(b"head").await.unwrap();
        server.read_exact(&mut [0; 4]).await.unwrap();
        let endless = async {
            loop {
                client.write_all(b"x").await.unwrap();
                sleep(LINGER_MAX / 10).await;
            }
        };
        let since = Instant::now();
        tokio::select! {
            ended = server.shutdown() => ended.unwrap(),
            () = endless => {}
        }
        assert_eq!(since.elapsed(), LINGER_MAX);
    }

    // Otherwise a stop would wait for each idle client.
    #[tokio::test(start_paused = true)]
    async fn idle_connection_does_not_linger() {
        let (_client, mut server) = open().await;
        let since = Instant::now();
        server.shutdown().await.unwrap();
        assert!(since.elapsed().is_zero());
    }
}
