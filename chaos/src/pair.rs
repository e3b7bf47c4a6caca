//! A host name with two addresses. A fault lets the first one stop answering.
//!
//! Workers resolve the name by a separate `/etc/hosts`. The receiver of the name listens on the
//! second address. The port is reserved on the first address, which refuses connections.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

/// The host name. The top-level domain is reserved for tests (RFC 6761).
pub const HOST: &str = "pair.test";
/// The address that can stop answering.
pub const FIRST: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// The address of the receiver.
pub const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Time after which a connection is taken as unanswered.
const UNANSWERED: Duration = Duration::from_millis(300);
/// Number of unanswered connections in a row that show a full queue. A busy machine may be late for
/// one.
const UNANSWERED_MIN: u32 = 2;
/// Maximum number of connections that fill the queue.
const QUEUE_MAX: usize = 100;

/// The content of `/etc/hosts` for the workers of a run.
#[must_use]
pub fn hosts() -> String {
    format!("127.0.0.1 localhost\n::1 localhost\n{FIRST} {HOST}\n{SECOND} {HOST}\n")
}

/// The port of the name on both addresses.
#[derive(Debug)]
pub struct Pair {
    port: u16,
    /// Bound without listening, so that connections to the first address are refused.
    _reserved: TcpSocket,
}

impl Pair {
    /// Binds both addresses. Returns the listener of the second one.
    ///
    /// # Errors
    /// If the machine does not have the second address, or no port is free on both.
    pub fn bind() -> io::Result<(Self, TcpListener)> {
        let listener = bound(SocketAddr::from((SECOND, 0)))?.listen(1_024)?;
        let port = listener.local_addr()?.port();
        let reserved = bound(SocketAddr::from((FIRST, port)))?;
        Ok((Self { port, _reserved: reserved }, listener))
    }

    /// The name with the port, as in a URL.
    #[must_use]
    pub fn authority(&self) -> String {
        format!("{HOST}:{}", self.port)
    }

    /// Lets the first address answer no connection: its accept queue is full, so that the kernel
    /// drops further SYN packets.
    ///
    /// # Errors
    /// If the address cannot listen, or its queue does not fill up.
    pub async fn silence_first(&self) -> io::Result<Silence> {
        let address = SocketAddr::from((FIRST, self.port));
        let listener = bound(address)?.listen(1)?;
        let (mut queue, mut unanswered) = (Vec::new(), 0);
        while unanswered < UNANSWERED_MIN {
            match timeout(UNANSWERED, TcpStream::connect(address)).await {
                Ok(connected) => {
                    queue.push(connected?);
                    unanswered = 0;
                }
                Err(_) => unanswered += 1,
            }
            if queue.len() > QUEUE_MAX {
                return Err(io::Error::other("the accept queue does not fill up"));
            }
        }
        Ok(Silence { _listener: listener, _queue: queue })
    }
}

/// The full accept queue. Dropping it lets the address refuse connections again.
#[derive(Debug)]
pub struct Silence {
    _listener: TcpListener,
    _queue: Vec<TcpStream>,
}

fn bound(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    // The fault would have no effect if the first address answered or refused.
    #[tokio::test]
    async fn silent_address_does_not_answer_and_then_refuses() {
        let (pair, _listener) = Pair::bind().unwrap();
        let first = || TcpStream::connect(SocketAddr::from((FIRST, pair.port)));
        assert!(first().await.is_err());
        let silence = pair.silence_first().await.unwrap();
        assert!(timeout(UNANSWERED, first()).await.is_err());
        TcpStream::connect(SocketAddr::from((SECOND, pair.port))).await.unwrap();
        drop(silence);
        assert!(first().await.is_err());
    }
}
