//! The health check that an image without curl can run: one request to the server beside it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long the check may take.
const CHECK_MAX: Duration = Duration::from_secs(3);

/// How much of the answer is read, in bytes: the status line is all that matters.
const ANSWER_BYTES_MAX: u64 = 4096;

/// Asks the server that is bound to `bind` whether it serves.
///
/// # Errors
///
/// When it does not answer 200 in time.
pub async fn check(bind: SocketAddr) -> io::Result<()> {
    timeout(CHECK_MAX, ask(dialled(bind)))
        .await
        .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
}

async fn ask(address: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .await?;
    let mut answer = Vec::new();
    stream
        .take(ANSWER_BYTES_MAX)
        .read_to_end(&mut answer)
        .await?;
    if answer.starts_with(b"HTTP/1.1 200 ") {
        Ok(())
    } else {
        Err(io::Error::other("the server did not answer 200"))
    }
}

/// A server bound to every address is asked on the loopback one.
fn dialled(bind: SocketAddr) -> SocketAddr {
    let ip = match bind.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, bind.port())
}
