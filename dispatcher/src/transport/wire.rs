//! One connection to a target, which remembers whether the answer to the last request has begun.
//!
//! The client library reports one and the same error for a connection that ended without a word and for one that ended
//! inside the head of an answer; only the bytes tell them apart.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Whether a byte of the answer to the request that was written last has come. Clones tell of the same connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard(Arc<AtomicBool>);

/// The connection, inside its TLS if it has any.
pub(super) struct Wire<S> {
    stream: S,
    heard: Heard,
    /// All that was written so far is on its way.
    flushed: bool,
}

impl Heard {
    pub(super) fn anything(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn set(&self, heard: bool) {
        self.0.store(heard, Ordering::Release);
    }
}

impl<S> Wire<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            heard: Heard::default(),
            flushed: true,
        }
    }

    /// A request is flushed as a whole, so what is written after a flush begins the next one; what is written before it
    /// does not, even if the peer answers already.
    fn writes(&mut self) {
        if std::mem::take(&mut self.flushed) {
            self.heard.set(false);
        }
    }
}

impl<S> Connection for Wire<S> {
    fn connected(&self) -> Connected {
        Connected::new().extra(self.heard.clone())
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
            self.heard.set(true);
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
        self.writes();
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.writes();
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
    async fn an_answer_is_heard_from_its_first_byte_until_the_next_request() {
        let (ours, mut theirs) = duplex(64);
        let mut wire = Wire::new(ours);
        let heard = wire.heard.clone();
        for _ in 0..2 {
            wire.write_all(b"head").await.unwrap();
            wire.flush().await.unwrap();
            assert!(!heard.anything());
            theirs.write_all(b"H").await.unwrap();
            wire.read_u8().await.unwrap();
            assert!(heard.anything());
        }
    }

    #[tokio::test]
    async fn an_answer_that_begins_while_the_request_is_written_stays_heard() {
        let (ours, mut theirs) = duplex(64);
        let mut wire = Wire::new(ours);
        wire.write_all(b"head").await.unwrap();
        theirs.write_all(b"H").await.unwrap();
        wire.read_u8().await.unwrap();
        wire.write_all(b"body").await.unwrap();
        assert!(wire.heard.anything());
    }

    #[tokio::test]
    async fn the_end_of_a_connection_is_no_answer() {
        let (ours, theirs) = duplex(64);
        let mut wire = Wire::new(ours);
        wire.write_all(b"head").await.unwrap();
        drop(theirs);
        assert_eq!(wire.read(&mut [0; 8]).await.unwrap(), 0);
        assert!(!wire.heard.anything());
    }
}
