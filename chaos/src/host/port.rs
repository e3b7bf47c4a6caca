//! Loopback ports for servers that are killed and started again on the same port.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Lowest port that [`free_port`] returns.
const PORT_MIN: u16 = 20_000;
/// Size of the port range. It ends below 32768, where the kernel's range for outgoing connections
/// begins: otherwise a client could take the port of a worker while that worker is dead.
const PORTS: u16 = 12_000;

/// Number of ports that this process has tried.
static PORTS_TRIED: AtomicU16 = AtomicU16::new(0);

/// Returns a loopback port without a listener that this process has not used before.
///
/// # Panics
/// If all 12,000 ports have a listener.
pub fn free_port() -> u16 {
    // Each process begins at a different port, so two processes rarely try the same port together.
    let start = u16::try_from(std::process::id().wrapping_mul(257) % u32::from(PORTS))
        .expect("a remainder below 12,000 fits in 16 bits");
    for _ in 0..PORTS {
        let step = PORTS_TRIED.fetch_add(1, Ordering::Relaxed) % PORTS;
        let port = PORT_MIN + (start + step) % PORTS;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no port from {PORT_MIN} to {} is free", PORT_MIN + PORTS - 1);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ports_differ_and_stay_below_the_outgoing_range() {
        let ports: BTreeSet<u16> = (0..100).map(|_| free_port()).collect();
        assert_eq!(ports.len(), 100);
        assert!(ports.iter().all(|port| (PORT_MIN..PORT_MIN + PORTS).contains(port)));
    }
}
