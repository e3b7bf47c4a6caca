//! Errors of one attempt, and helpers that read an error and its sources.
//!
//! A leaf: the transport and all of its parts use these types.

use std::error::Error;
use std::io;

use crate::event::{AttemptResult, Outcome};

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

/// The end of an attempt that could not establish a connection.
pub(super) type DialError = Result<AttemptResult, NotSent>;

pub(super) fn failed(outcome: Outcome, error: String) -> DialError {
    Ok(AttemptResult::failed(outcome, error))
}

/// Returns the innermost source of an error as text. The outer ones only name the step.
pub(super) fn describe(error: &(dyn Error + 'static)) -> String {
    chain(error).last().unwrap_or(error).to_string()
}

/// Iterates over an error and its sources, outermost first.
pub(super) fn chain<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        // `io::Error::source` skips the error from which an `io::Error` was made.
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        }
    })
}
