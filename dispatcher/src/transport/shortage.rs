//! Which failures are this machine's own: nothing left it, so they say nothing of the receiver.

use std::error::Error;
use std::io;
use std::net::SocketAddr;

use nix::errno::Errno;
use tokio::net::TcpSocket;

/// Why an attempt was not made. It burns none: the claim goes back unsent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// This machine is short of what every connection needs.
    #[error("this machine can make no connection: {0}")]
    Machine(String),
    /// This machine is short of what connections to this target need: its ports for them are all in use.
    #[error("this machine can make no further connection to this target: {0}")]
    Target(String),
}

/// Descriptors of the process or of the system, memory of the kernel's.
const OF_THE_MACHINE: [Errno; 4] = [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM];

/// What a connection to these addresses failed of, if it is this machine's own trouble.
pub(super) fn of_connecting(
    error: &(dyn Error + 'static),
    dialled: &[SocketAddr],
) -> Option<NotSent> {
    let error = super::classify::chain(error).find_map(<dyn Error>::downcast_ref::<io::Error>)?;
    let errno = Errno::from_raw(error.raw_os_error()?);
    if OF_THE_MACHINE.contains(&errno) {
        return Some(NotSent::Machine(error.to_string()));
    }
    // Where IPv6 is switched off, every connection over it fails so, today and tomorrow.
    let only_ipv4 = dialled.iter().all(SocketAddr::is_ipv4);
    (errno == Errno::EADDRNOTAVAIL && only_ipv4).then(|| NotSent::Target(error.to_string()))
}

/// What a resolution that failed just now may have failed of. The system's resolver needs descriptors, too, and does not
/// say so when it gets none: whether there is one to be had is tried.
pub(super) fn of_resolving() -> Option<NotSent> {
    let error = TcpSocket::new_v4().err()?;
    of_connecting(&error, &[])
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn shortage(errno: Errno, dialled: &[&str]) -> Option<NotSent> {
        let error = io::Error::from_raw_os_error(errno as i32);
        let dialled: Vec<_> = dialled
            .iter()
            .map(|socket| socket.parse().unwrap())
            .collect();
        of_connecting(&error, &dialled)
    }

    #[test]
    fn what_every_connection_needs_is_the_machines_trouble_whatever_is_dialled() {
        for errno in OF_THE_MACHINE {
            for dialled in ["192.0.2.1:80", "[2001:db8::1]:80"] {
                assert!(matches!(
                    shortage(errno, &[dialled]),
                    Some(NotSent::Machine(_))
                ));
            }
        }
    }

    // The kernel says the same of IPv6 where it is switched off: that is no shortage, and would never end.
    #[test]
    fn spent_ports_are_told_from_an_ipv6_that_is_switched_off() {
        let spent = |dialled| shortage(Errno::EADDRNOTAVAIL, dialled);
        assert!(matches!(
            spent(&["192.0.2.1:80", "192.0.2.2:80"]),
            Some(NotSent::Target(_))
        ));
        assert_eq!(spent(&["[2001:db8::1]:80"]), None);
        assert_eq!(spent(&["192.0.2.1:80", "[2001:db8::1]:80"]), None);
    }

    #[test]
    fn what_a_network_or_a_receiver_says_is_no_shortage() {
        for errno in [
            Errno::ECONNREFUSED,
            Errno::ENETUNREACH,
            Errno::EHOSTUNREACH,
            Errno::ETIMEDOUT,
            Errno::ECONNRESET,
        ] {
            assert_eq!(shortage(errno, &["192.0.2.1:80"]), None);
        }
        assert_eq!(of_connecting(&io::Error::other("no errno"), &[]), None);
        assert_eq!(of_resolving(), None, "there are descriptors here");
    }
}
