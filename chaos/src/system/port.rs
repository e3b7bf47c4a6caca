//! Ports for servers that are started, killed and started again on the same port.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// First port that is given out.
const PORT_MIN: u16 = 20_000;
/// So many ports are used, all below the kernel's range for outgoing connections (from 32768): a
/// client could otherwise take a worker's port while the worker is dead.
const PORTS: u16 = 12_000;

/// Ports that this process has given out.
static GIVEN_OUT: AtomicU16 = AtomicU16::new(0);

/// A port on loopback that nobody listens on and that this process has not been given before.
///
/// # Panics
/// When all 12,000 ports are taken.
pub fn free_port() -> u16 {
    // Processes start at different places, so that they seldom try the same port at the same time.
    let start = u16::try_from(std::process::id().wrapping_mul(257) % u32::from(PORTS))
        .expect("a remainder of 12,000 fits");
    for _ in 0..PORTS {
        let step = GIVEN_OUT.fetch_add(1, Ordering::Relaxed) % PORTS;
        let port = PORT_MIN + (start + step) % PORTS;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!(
        "no port from {PORT_MIN} to {} is free",
        PORT_MIN + PORTS - 1
    );
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ports_are_distinct_and_below_the_range_of_outgoing_connections() {
        let ports: BTreeSet<u16> = (0..100).map(|_| free_port()).collect();
        assert_eq!(ports.len(), 100);
        assert!(
            ports
                .iter()
                .all(|port| (PORT_MIN..PORT_MIN + PORTS).contains(port))
        );
    }
}
