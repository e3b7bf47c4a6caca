//! The health check of the container image, which has no curl: one request to the local server.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Time limit of the check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(3);

/// Maximum number of bytes that are read. The check uses only the status line.
const RESPONSE_BYTES_MAX: u64 = 4096;

/// Sends `GET /healthz` to the server that is bound to `bind`.
///
/// # Errors
///
/// If the server does not respond 200 within 3 s.
pub async fn check(bind: SocketAddr) -> io::Result<()> {
    timeout(CHECK_TIMEOUT, request(loopback(bind)))
        .await
        .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
}

async fn request(address: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .await?;
    let mut response = Vec::new();
    stream.take(RESPONSE_BYTES_MAX).read_to_end(&mut response).await?;
    if response.starts_with(b"HTTP/1.1 200 ") {
        Ok(())
    } else {
        Err(io::Error::other("the server did not respond 200"))
    }
}

/// Returns the loopback address of a server that is bound to every address, else `bind`.
fn loopback(bind: SocketAddr) -> SocketAddr {
    let ip = match bind.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, bind.port())
}
