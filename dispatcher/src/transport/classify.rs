//! Maps the failure of an exchange to an [`Outcome`].

use std::error::Error;
use std::net::SocketAddr;

use super::error::{chain, describe};
use super::wire::Wire;
use crate::event::{AttemptResult, Outcome};

/// Classifies an error of the client library that occurred before the head of the response was
/// complete.
pub(super) fn before_response(error: &hyper::Error, wire: &Wire) -> AttemptResult {
    if wire.unsolicited {
        return unsolicited(wire.address());
    }
    let outcome = if wire.response_started {
        Outcome::Body
    } else if chain(error).any(<dyn Error>::is::<rustls::Error>) {
        // A server that requires a client certificate reports it only after the handshake has
        // finished on this side.
        Outcome::Tls
    } else {
        Outcome::Reset
    };
    let reason = match wire.write_error() {
        Some(error) => error.to_string(),
        None => describe(error),
    };
    AttemptResult::failed(outcome, format!("{}: {reason}", wire.phase()))
}

/// Returns the result of an attempt whose response may belong to another exchange.
pub(super) fn unsolicited(address: SocketAddr) -> AttemptResult {
    let error = format!("{address} sent unsolicited bytes, so its response is not trusted");
    AttemptResult::failed(Outcome::Reset, error)
}
