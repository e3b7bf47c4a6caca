//! Opens connections: resolves the name to permitted addresses, connects by TCP to one of them, and
//! adds TLS for `https`.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, TryFutureExt};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_rustls::TlsConnector;
use tokio_util::either::Either;

use super::deadline::Deadline;
use super::error::{DialError, describe, failed};
use super::exhaustion;
use super::lookups::Lookups;
use super::resolve::resolve;
use super::wire::Socket;
use crate::event::Outcome;
use crate::target::{AllowList, Destination};

/// Longest pause between the first connection tries of two addresses (RFC 8305, section 5).
const TRY_PAUSE_MAX: Duration = Duration::from_millis(250);

/// Maximum number of addresses that one attempt tries. Each try needs a file descriptor.
const TRIES_MAX: usize = 16;

/// Opens connections within the deadline of an attempt.
pub(super) struct Dialer {
    pub(super) allowed: AllowList,
    pub(super) lookups: Lookups,
    pub(super) tls: TlsConnector,
}

impl Dialer {
    /// `turn` selects the first address. A literal address resolves to itself.
    pub(super) async fn dial(
        &self,
        to: &Destination,
        turn: usize,
        deadline: Deadline,
    ) -> Result<Socket, DialError> {
        let resolving = || format!("resolving {}", to.host);
        let found = resolve(&to.host, &self.lookups, &self.allowed);
        let found = in_turn(deadline.limit(resolving, found).await?, turn);
        let addresses: Vec<_> = found.into_iter().map(|ip| SocketAddr::new(ip, to.port)).collect();
        let tries = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
        let pause = TRY_PAUSE_MAX.min(deadline.left() / (tries + 1));
        let connecting = || format!("connecting to {}", join(&addresses, ToString::to_string));
        let (tcp, address) = deadline.limit(connecting, connect(&addresses, pause)).await?;
        if !to.is_https {
            return Ok(Socket::new(Either::Left(tcp), address));
        }
        let name = ServerName::try_from(to.host.clone());
        let name = name.map_err(|error| failed(Outcome::Tls, error.to_string()))?;
        let handshaking = || format!("TLS handshake with {address}");
        let handshake = self.tls.connect(name, tcp).map_err(|error| {
            failed(Outcome::Tls, format!("{}: {}", handshaking(), describe(&error)))
        });
        let tls = deadline.limit(handshaking, handshake).await?;
        Ok(Socket::new(Either::Right(Box::new(tls)), address))
    }
}

/// Orders addresses so that families alternate and each turn begins with another address. Sorting
/// makes the order independent of the name server, which may rotate its addresses too.
fn in_turn(mut addresses: Vec<IpAddr>, turn: usize) -> Vec<IpAddr> {
    addresses.sort_unstable();
    addresses.dedup();
    let ipv4 = addresses.iter().filter(|address| address.is_ipv4()).count();
    let mut order: Vec<_> = addresses.into_iter().enumerate().collect();
    // IPv4 addresses are sorted before IPv6 addresses.
    order.sort_by_key(|(at, address)| (if address.is_ipv6() { at - ipv4 } else { *at }, *at));
    let first = turn % order.len().max(1);
    order.rotate_left(first);
    order.into_iter().map(|(_, address)| address).take(TRIES_MAX).collect()
}

/// Connects to the first address that accepts. A further one is tried after `pause`, or immediately
/// if a try has failed. Earlier tries continue meanwhile.
async fn connect(
    addresses: &[SocketAddr],
    pause: Duration,
) -> Result<(TcpStream, SocketAddr), DialError> {
    let mut waiting = addresses.iter();
    let mut running = FuturesUnordered::new();
    let mut failures = Vec::new();
    loop {
        running.extend(waiting.next().map(|&address| async move {
            let tcp = TcpStream::connect(address).await;
            (address, tcp.and_then(|tcp| tcp.set_nodelay(true).map(|()| tcp)))
        }));
        tokio::select! {
            biased;
            Some((address, opened)) = running.next() => match opened {
                Ok(tcp) => return Ok((tcp, address)),
                Err(error) => failures.push((address, error)),
            },
            () = sleep(pause), if waiting.len() > 0 => {}
            else => break,
        }
    }
    let exhausted = |(_, error): &(_, io::Error)| exhaustion::of_connecting(error, addresses);
    Err(match failures.iter().find_map(exhausted) {
        Some(exhausted) => Err(exhausted),
        None => {
            let failures = join(&failures, |(address, error)| format!("{address}: {error}"));
            failed(Outcome::Connect, format!("connecting to {failures}"))
        }
    })
}

fn join<T>(items: &[T], text: impl Fn(&T) -> String) -> String {
    items.iter().map(text).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::collections::BTreeSet;

    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    fn parsed(addresses: &[&str]) -> Vec<IpAddr> {
        let parsed = addresses.iter().map(|address| address.parse().unwrap());
        parsed.collect()
    }

    #[test]
    fn families_alternate_and_the_order_of_the_name_server_is_ignored() {
        let found = parsed(&["2001:db8::1", "192.0.2.2", "192.0.2.3", "192.0.2.1", "192.0.2.1"]);
        let order = parsed(&["192.0.2.1", "2001:db8::1", "192.0.2.2", "192.0.2.3"]);
        assert_eq!(in_turn(found.clone(), 0), order);
        let rotated: Vec<_> = found.into_iter().rev().collect();
        assert_eq!(in_turn(rotated, 4), order);
    }

    #[test]
    fn each_attempt_begins_with_another_address() {
        let many: Vec<_> = (0..40).map(|n| IpAddr::from([192, 0, 2, n])).collect();
        let first: BTreeSet<_> = (7..47).map(|turn| in_turn(many.clone(), turn)[0]).collect();
        assert_eq!(first.len(), many.len());
        assert_eq!(in_turn(many, usize::MAX).len(), TRIES_MAX);
        assert_eq!(in_turn(Vec::new(), 3), Vec::<IpAddr>::new());
    }

    // The accept queue of the first address is full, so it never responds.
    #[tokio::test]
    async fn silent_address_does_not_prevent_the_next() {
        let silent = TcpSocket::new_v4().unwrap();
        silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let silent = silent.listen(1).unwrap();
        let first = silent.local_addr().unwrap();
        let mut full = Vec::new();
        let wait = Duration::from_millis(200);
        while let Ok(tcp) = tokio::time::timeout(wait, TcpStream::connect(first)).await {
            full.push(tcp.unwrap());
        }
        let healthy = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let second = healthy.local_addr().unwrap();
        let addresses = [first, second];
        let (_, connected) = connect(&addresses, Duration::from_millis(1)).await.unwrap();
        assert_eq!(connected, second);
    }

    // With a pause that does not end, only the failure starts the next try.
    #[tokio::test]
    async fn refused_address_is_followed_immediately() {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let first = closed.local_addr().unwrap();
        drop(closed);
        let healthy = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let second = healthy.local_addr().unwrap();
        let (_, connected) = connect(&[first, second], Duration::MAX).await.unwrap();
        assert_eq!(connected, second);
        let error = connect(&[first, first], Duration::MAX).await.unwrap_err();
        let Ok(result) = error else { panic!("{error:?}") };
        assert_eq!(result.error.unwrap().matches(&first.to_string()).count(), 2);
    }
}
