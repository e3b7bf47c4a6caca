//! One bounded HTTP GET that looks at the status only. It must not reuse a connection: a probe of a
//! worker that was just killed has to meet the new one.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Bound of one probe, seconds.
const PROBE_SECONDS_MAX: Duration = Duration::from_secs(3);
/// Bytes of `HTTP/1.1 200`: all that is read.
const STATUS_LINE_BYTES: usize = 12;

/// The status that `GET path` is answered with.
///
/// # Errors
/// When nobody listens, the answer is no HTTP, or it does not come within three seconds.
pub async fn status_of(address: SocketAddr, path: &str) -> io::Result<u16> {
    timeout(PROBE_SECONDS_MAX, ask(address, path))
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")))
}

async fn ask(address: SocketAddr, path: &str) -> io::Result<u16> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = [0; STATUS_LINE_BYTES];
    stream.read_exact(&mut head).await?;
    let text = std::str::from_utf8(&head).ok();
    text.and_then(|text| text.strip_prefix("HTTP/1."))
        .and_then(|rest| rest.get(2..))
        .and_then(|status| status.parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is no HTTP"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

    use tokio::net::TcpListener;

    use super::*;

    async fn answering(answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _read = stream.read(&mut [0; 1024]).await.unwrap();
            stream.write_all(answer).await.unwrap();
        });
        address
    }

    #[tokio::test]
    async fn the_status_of_an_answer_is_read() {
        let address = answering(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").await;
        assert_eq!(status_of(address, "/readyz").await.unwrap(), 503);
    }

    #[tokio::test]
    async fn what_is_no_http_is_an_error() {
        let address = answering(b"+OK not an HTTP server\r\n").await;
        assert!(status_of(address, "/readyz").await.is_err());
    }
}
