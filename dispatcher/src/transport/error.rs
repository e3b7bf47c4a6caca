//! Errors of one attempt, and helpers that read an error and its sources.
//!
//! A leaf: the transport and all of its parts use these types. `classify.rs` maps them to an
//! `Outcome`.

use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};

use rustls::pki_types::InvalidDnsNameError;

/// Set-up error of the transport: without a certificate authority, no HTTPS target can be verified.
#[derive(Debug, thiserror::Error)]
#[error(
    "no certificate authority to trust: install CA certificates in the system or set EXTRA_CA_FILE"
)]
pub struct TransportError;

/// Local exhaustion: this machine lacks a resource, so no request was sent. The claim is released,
/// and the attempt does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// No connection to any target is possible: no file descriptor or no kernel memory is left.
    #[error("this machine cannot open a connection: {0}")]
    Machine(String),
    /// No further connection to this target is possible: all local ports for it are in use.
    #[error("this machine cannot open another connection to this target: {0}")]
    Target(String),
}

/// Failure to establish a connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// No address of the target accepted a TCP connection. Contains each address and its error.
    #[error("connecting to {0}")]
    Tcp(String),
    #[error(transparent)]
    NotSent(#[from] NotSent),
    /// The TLS handshake failed, or the connection ended during the handshake.
    #[error("TLS handshake with {address}: {}", describe(.source))]
    Tls { address: SocketAddr, source: io::Error },
    /// The deadline passed. Contains the whole error text.
    #[error("{0}")]
    Timeout(String),
    /// The host name has a form that no certificate can contain.
    #[error(transparent)]
    Name(#[from] InvalidDnsNameError),
}

/// Failure to resolve a host name to an address that may be dialed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResolveError {
    /// The system's resolver failed or returned no address.
    #[error("resolving {name}: {reason}")]
    Unknown { name: String, reason: String },
    /// All addresses are in refused ranges. `address` is the first one, `range` its range.
    #[error("{name} resolves to {address}, which is {range}; ALLOWED_TARGET_CIDRS can permit it")]
    Refused { name: String, address: IpAddr, range: &'static str },
}

/// Returns the innermost source of an error as text. The outer ones only name the step.
pub(super) fn describe(error: &(dyn Error + 'static)) -> String {
    let innermost = chain(error).last().map(ToString::to_string);
    innermost.unwrap_or_else(|| error.to_string())
}

/// Iterates over an error and its sources, outermost first.
pub(super) fn chain<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| source(*error))
}

/// `io::Error::source` skips the error from which an `io::Error` was made, so this returns that
/// one.
fn source<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    match wrapped {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}
