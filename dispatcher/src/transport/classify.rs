//! Maps an error of the client library to an [`Outcome`].
//!
//! The library wraps errors several levels deep. If one of them is a `DialError`, it decides.

use std::error::Error;

use hyper_util::client::legacy;

use super::error::{DialError, NotSent, ResolveError, chain, describe};
use crate::event::{AttemptResult, Outcome};

/// Classifies an error that occurred before the head of the response was complete.
/// `response_started` is true if at least one byte of the response had arrived.
pub(super) fn before_response(
    error: &legacy::Error,
    response_started: bool,
) -> Result<AttemptResult, NotSent> {
    let dial = chain(error).find_map(<dyn Error>::downcast_ref::<DialError>);
    let outcome = match dial {
        Some(DialError::NotSent(reason)) => return Err(reason.clone()),
        Some(DialError::Resolve(ResolveError::Unknown { .. })) => Outcome::Dns,
        Some(DialError::Resolve(ResolveError::Refused { .. })) => Outcome::TargetRefused,
        Some(DialError::Tcp(_)) => Outcome::Connect,
        Some(DialError::Tls(_) | DialError::Name(_)) => Outcome::Tls,
        None if response_started => Outcome::Body,
        // A server that requires a client certificate reports it only after the handshake has
        // finished on this side.
        None if chain(error).any(<dyn Error>::is::<rustls::Error>) => Outcome::Tls,
        None => Outcome::Reset,
    };
    Ok(AttemptResult::failed(outcome, describe(error)))
}
