//! Connection to a target, and the facts about one exchange that the client library hides.
//!
//! The library reports the same error for a connection that ended before the response and for one
//! that ended within its head. The outcomes differ (`reset`, `body`), so the bytes decide. The
//! library also stops at a write error and does not read a response that has already arrived.

use std::io::{self, ErrorKind, IoSlice};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::FutureExt;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// An open connection to a target.
pub(super) struct Socket {
    stream: Stream,
    pub(super) address: SocketAddr,
    /// True if an earlier exchange used the connection.
    pub(super) used: bool,
}

/// State of a connection between two exchanges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// Nothing has arrived.
    Unbroken,
    /// A part of TLS has arrived that contains no data, for example a session ticket.
    Unclear,
    /// Bytes have arrived that answer no request.
    Unsolicited,
    /// The receiver has closed the connection.
    Closed,
}

/// One exchange over a connection.
pub(super) struct Wire {
    socket: Socket,
    request: Request,
    pub(super) response_started: bool,
    /// Bytes arrived before the first byte of the request was written.
    pub(super) unsolicited: bool,
    /// The response started before the request was complete.
    early: bool,
}

/// Progress of the request.
enum Request {
    NotBegun,
    Begun,
    Complete,
    /// The receiver accepts no further bytes. The library does not see the error, so it reads the
    /// response.
    Failed(io::Error),
}

impl Socket {
    pub(super) fn new(stream: Stream, address: SocketAddr) -> Self {
        Self { stream, address, used: false }
    }

    /// Checks a connection between two exchanges. The check may read bytes, so a connection is
    /// usable only if it returns `Unbroken`.
    pub(super) fn silence(&mut self) -> Silence {
        let raw = self.peek();
        let Either::Right(tls) = &mut self.stream else { return raw };
        // TLS may hold data although the kernel holds none.
        match tls.read(&mut [0]).now_or_never() {
            Some(Ok(1..)) => Silence::Unsolicited,
            Some(_) => Silence::Closed,
            None if raw == Silence::Unsolicited => Silence::Unclear,
            None => raw,
        }
    }

    /// Asks the kernel, because the readiness that tokio has noted may be older.
    fn peek(&self) -> Silence {
        let tcp = match &self.stream {
            Either::Left(tcp) => tcp,
            Either::Right(tls) => tls.get_ref().0,
        };
        match SockRef::from(tcp).peek(&mut [MaybeUninit::uninit()]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Silence::Unbroken,
            Ok(0) | Err(_) => Silence::Closed,
            Ok(_) => Silence::Unsolicited,
        }
    }
}

impl Wire {
    pub(super) fn new(socket: Socket) -> Self {
        Self {
            socket,
            request: Request::NotBegun,
            response_started: false,
            unsolicited: false,
            early: false,
        }
    }

    /// Returns the connection, for the next exchange.
    pub(super) fn into_socket(self) -> Socket {
        let socket = self.socket;
        Socket { used: true, ..socket }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.socket.address
    }

    /// Returns true if the receiver read the whole request before it responded.
    pub(super) fn is_orderly(&self) -> bool {
        matches!(self.request, Request::Complete) && !self.early
    }

    /// Returns the error that ended the request, if there is one.
    pub(super) fn write_error(&self) -> Option<&io::Error> {
        if let Request::Failed(error) = &self.request { Some(error) } else { None }
    }

    /// Describes the progress of the exchange, for error texts.
    pub(super) fn phase(&self) -> String {
        let address = self.socket.address;
        match self.request {
            _ if self.response_started => format!("reading the response of {address}"),
            Request::Complete => format!("waiting for the response of {address}"),
            _ => format!("sending the request to {address}"),
        }
    }

    /// Checks immediately before the first byte of the request is written that nothing has arrived.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.socket.peek() != Silence::Unbroken {
            let mut byte = [0];
            let mut buffer = ReadBuf::new(&mut byte);
            match Pin::new(&mut *self).poll_read(cx, &mut buffer)? {
                Poll::Ready(()) => {
                    let ended = "the connection ended before the request was written";
                    return Poll::Ready(Err(io::Error::new(ErrorKind::ConnectionReset, ended)));
                }
                // Session tickets of TLS are no data. tokio wakes the task for everything else.
                Poll::Pending if self.socket.peek() == Silence::Unbroken => {}
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Writes a part of the request. After a failed write, the rest is discarded.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        length: usize,
        write: impl FnOnce(Pin<&mut Stream>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match self.request {
            Request::Failed(_) => return Poll::Ready(Ok(length)),
            Request::NotBegun => ready!(self.poll_silence(cx))?,
            Request::Begun | Request::Complete => {}
        }
        let written = ready!(write(Pin::new(&mut self.socket.stream), cx));
        self.request = Request::Begun;
        Poll::Ready(Ok(written.unwrap_or_else(|error| {
            self.request = Request::Failed(error);
            length
        })))
    }

    /// Returns true if a read error ends the response like an end of the connection. TLS without
    /// `close_notify` is an error, but the head of a response is authenticated, and a body without
    /// a length decides nothing. A receiver that closes before it has read the whole request
    /// resets the connection.
    fn is_end(&self, error: &io::Error) -> bool {
        let is_complete = matches!(self.request, Request::Complete);
        match error.kind() {
            ErrorKind::UnexpectedEof => true,
            ErrorKind::ConnectionReset => self.response_started || !is_complete,
            _ => false,
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match ready!(Pin::new(&mut self.socket.stream).poll_read(cx, buffer)) {
            Err(error) if self.is_end(&error) => {}
            read => read?,
        }
        if buffer.filled().len() == before {
            return Poll::Ready(Ok(()));
        }
        if matches!(self.request, Request::NotBegun) {
            self.unsolicited = true;
            return Poll::Ready(Err(ErrorKind::InvalidData.into()));
        }
        self.early |= !self.response_started && !matches!(self.request, Request::Complete);
        self.response_started = true;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(cx, bytes.len(), |stream, cx| stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = parts.iter().map(|part| part.len()).sum();
        self.poll_send(cx, length, |stream, cx| stream.poll_write_vectored(cx, parts))
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.stream.is_write_vectored()
    }

    /// The library flushes a request once all of its bytes are written.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if matches!(self.request, Request::Begun) {
            self.request = match ready!(Pin::new(&mut self.socket.stream).poll_flush(cx)) {
                Ok(()) => Request::Complete,
                Err(error) => Request::Failed(error),
            };
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (Wire, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let ours = TcpStream::connect(address).await.unwrap();
        let (theirs, _) = listener.accept().await.unwrap();
        (Wire::new(Socket::new(Either::Left(ours), address)), theirs)
    }

    #[tokio::test]
    async fn response_starts_with_its_first_byte() {
        let (mut wire, mut theirs) = pair().await;
        wire.write_all(b"head").await.unwrap();
        wire.flush().await.unwrap();
        assert!(!wire.response_started && wire.is_orderly());
        theirs.write_all(b"H").await.unwrap();
        wire.read_u8().await.unwrap();
        assert!(wire.response_started && wire.is_orderly());
    }

    #[tokio::test]
    async fn end_of_the_connection_does_not_start_a_response() {
        let (mut wire, mut theirs) = pair().await;
        wire.write_all(b"head").await.unwrap();
        theirs.shutdown().await.unwrap();
        assert_eq!(wire.read(&mut [0; 8]).await.unwrap(), 0);
        assert!(!wire.response_started);
    }

    // The runtime has not noticed the bytes yet, so only the kernel knows of them.
    #[tokio::test]
    async fn bytes_before_the_request_fail_its_first_write() {
        let (mut wire, mut theirs) = pair().await;
        theirs.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        wire.write_all(b"head").await.unwrap_err();
        assert!(wire.unsolicited && !wire.response_started);
        assert_eq!(theirs.try_read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    }

    #[tokio::test]
    async fn end_before_the_request_fails_its_first_write() {
        let (mut wire, mut theirs) = pair().await;
        theirs.shutdown().await.unwrap();
        wire.write_all(b"head").await.unwrap_err();
        assert!(!wire.unsolicited);
    }

    // `theirs` is closed with unread bytes, so the kernel resets the connection.
    #[tokio::test]
    async fn response_can_be_read_after_a_failed_write() {
        let (mut wire, mut theirs) = pair().await;
        wire.write_all(b"head").await.unwrap();
        theirs.write_all(b"HTTP").await.unwrap();
        theirs.readable().await.unwrap();
        drop(theirs);
        wire.write_all(b"body").await.unwrap();
        wire.flush().await.unwrap();
        let mut response = String::new();
        wire.read_to_string(&mut response).await.unwrap();
        assert_eq!(response, "HTTP");
        assert!(wire.write_error().is_some() && !wire.is_orderly());
    }

    #[tokio::test]
    async fn silence_is_that_of_the_kernel() {
        let (wire, mut theirs) = pair().await;
        let mut socket = wire.into_socket();
        assert_eq!(socket.silence(), Silence::Unbroken);
        theirs.write_all(b"x").await.unwrap();
        assert_eq!(socket.silence(), Silence::Unsolicited);
        let (wire, theirs) = pair().await;
        drop(theirs);
        assert_eq!(wire.into_socket().silence(), Silence::Closed);
    }
}
