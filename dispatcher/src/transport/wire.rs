//! Connection to a target that records whether the response to the last request has started.
//!
//! The client library reports the same error for a connection that ended before the response and
//! for one that ended within its head. The outcomes differ (`reset`, `body`), so the bytes decide.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// True after the first byte of the response to the last request. Clones share the value.
#[derive(Clone, Debug, Default)]
pub(super) struct ResponseStarted(Arc<AtomicBool>);

/// Wraps the decrypted stream if the target uses TLS.
pub(super) struct Wire<S> {
    stream: S,
    response_started: ResponseStarted,
    /// True if all written bytes are flushed, so that the next write starts a request.
    flushed: bool,
}

impl ResponseStarted {
    pub(super) fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn set(&self, started: bool) {
        self.0.store(started, Ordering::Release);
    }
}

impl<S> Wire<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            response_started: ResponseStarted::default(),
            flushed: true,
        }
    }

    /// The client flushes each request once, at its end. A write after a flush starts the next
    /// request. A write before it does not, even if the response has already started.
    fn before_write(&mut self) {
        if std::mem::take(&mut self.flushed) {
            self.response_started.set(false);
        }
    }
}

impl<S> Connection for Wire<S> {
    fn connected(&self) -> Connected {
        Connected::new().extra(self.response_started.clone())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.response_started.set(true);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.before_write();
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.before_write();
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.flushed = true;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn response_starts_with_its_first_byte_for_each_request() {
        let (ours, mut theirs) = duplex(64);
        let mut wire = Wire::new(ours);
        let started = wire.response_started.clone();
        for _ in 0..2 {
            wire.write_all(b"head").await.unwrap();
            wire.flush().await.unwrap();
            assert!(!started.get());
            theirs.write_all(b"H").await.unwrap();
            wire.read_u8().await.unwrap();
            assert!(started.get());
        }
    }

    #[tokio::test]
    async fn early_response_counts_while_the_request_is_written() {
        let (ours, mut theirs) = duplex(64);
        let mut wire = Wire::new(ours);
        wire.write_all(b"head").await.unwrap();
        theirs.write_all(b"H").await.unwrap();
        wire.read_u8().await.unwrap();
        wire.write_all(b"body").await.unwrap();
        assert!(wire.response_started.get());
    }

    #[tokio::test]
    async fn end_of_the_connection_does_not_start_a_response() {
        let (ours, theirs) = duplex(64);
        let mut wire = Wire::new(ours);
        wire.write_all(b"head").await.unwrap();
        drop(theirs);
        assert_eq!(wire.read(&mut [0; 8]).await.unwrap(), 0);
        assert!(!wire.response_started.get());
    }
}
