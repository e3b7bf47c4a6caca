//! A readiness probe: one HTTP GET with a time limit that reads only the status.
//!
//! Each probe opens a new connection. A reused one could lead to a worker that has been killed.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Time limit of one probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);
/// Number of bytes that a probe reads: the length of `HTTP/1.1 200`.
const STATUS_LINE_BYTES: usize = 12;

/// Sends `GET path` to `address` and returns the status of the response.
///
/// # Errors
/// If the connection fails, or if no HTTP response begins within 3 s.
pub async fn status_of(address: SocketAddr, path: &str) -> io::Result<u16> {
    timeout(PROBE_TIMEOUT, probe(address, path))
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no response within 3 s")))
}

async fn probe(address: SocketAddr, path: &str) -> io::Result<u16> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = [0; STATUS_LINE_BYTES];
    stream.read_exact(&mut head).await?;
    let text = std::str::from_utf8(&head).ok();
    text.and_then(|text| text.strip_prefix("HTTP/1."))
        .and_then(|rest| rest.get(2..))
        .and_then(|status| status.parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the response is not HTTP"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

    use tokio::net::TcpListener;

    use super::*;

    async fn serve_once(response: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _read = stream.read(&mut [0; 1024]).await.unwrap();
            stream.write_all(response).await.unwrap();
        });
        address
    }

    #[tokio::test]
    async fn probe_returns_the_status() {
        let address = serve_once(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").await;
        assert_eq!(status_of(address, "/readyz").await.unwrap(), 503);
    }

    #[tokio::test]
    async fn response_that_is_not_http_is_an_error() {
        let address = serve_once(b"+OK not an HTTP server\r\n").await;
        assert!(status_of(address, "/readyz").await.is_err());
    }
}
