//! Recognizes local exhaustion: failures of this machine, before anything was sent. They are not
//! evidence against the receiver, so they do not count as attempts.

use std::io;
use std::net::SocketAddr;

use nix::errno::Errno;
use tokio::net::TcpSocket;

use super::error::NotSent;

/// No file descriptor in the process or the system, no buffer or no memory in the kernel.
const MACHINE_ERRORS: [Errno; 4] = [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM];

/// Returns the exhausted resource if it is the reason why a connection to `dialed` failed.
pub(super) fn of_connecting(error: &io::Error, dialed: &[SocketAddr]) -> Option<NotSent> {
    let errno = Errno::from_raw(error.raw_os_error()?);
    if MACHINE_ERRORS.contains(&errno) {
        return Some(NotSent::Machine(error.to_string()));
    }
    // If IPv6 is disabled, every connection over it fails with EADDRNOTAVAIL, permanently.
    let only_ipv4 = dialed.iter().all(SocketAddr::is_ipv4);
    (errno == Errno::EADDRNOTAVAIL && only_ipv4).then(|| NotSent::Target(error.to_string()))
}

/// Returns the exhausted resource if it may be the reason why a lookup failed a moment ago. The
/// system's resolver needs file descriptors and does not report their lack, so this opens a socket.
pub(super) fn of_resolving() -> Option<NotSent> {
    let error = TcpSocket::new_v4().err()?;
    of_connecting(&error, &[])
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn exhausted(errno: Errno, dialed: &[&str]) -> Option<NotSent> {
        let error = io::Error::from_raw_os_error(errno as i32);
        let dialed: Vec<_> = dialed.iter().map(|socket| socket.parse().unwrap()).collect();
        of_connecting(&error, &dialed)
    }

    #[test]
    fn exhausted_machine_fails_every_target() {
        for errno in MACHINE_ERRORS {
            for dialed in ["192.0.2.1:80", "[2001:db8::1]:80"] {
                assert!(matches!(exhausted(errno, &[dialed]), Some(NotSent::Machine(_))));
            }
        }
    }

    // The kernel returns the same error if IPv6 is disabled. That state does not end by waiting.
    #[test]
    fn disabled_ipv6_is_not_port_exhaustion() {
        let spent = |dialed| exhausted(Errno::EADDRNOTAVAIL, dialed);
        assert!(matches!(spent(&["192.0.2.1:80", "192.0.2.2:80"]), Some(NotSent::Target(_))));
        assert_eq!(spent(&["[2001:db8::1]:80"]), None);
        assert_eq!(spent(&["192.0.2.1:80", "[2001:db8::1]:80"]), None);
    }

    #[test]
    fn errors_of_network_or_receiver_are_not_exhaustion() {
        for errno in [
            Errno::ECONNREFUSED,
            Errno::ENETUNREACH,
            Errno::EHOSTUNREACH,
            Errno::ETIMEDOUT,
            Errno::ECONNRESET,
        ] {
            assert_eq!(exhausted(errno, &["192.0.2.1:80"]), None);
        }
        assert_eq!(of_connecting(&io::Error::other("no errno"), &[]), None);
        assert_eq!(of_resolving(), None, "this test has free descriptors");
    }
}
