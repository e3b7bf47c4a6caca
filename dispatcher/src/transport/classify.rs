//! What the client library's error means in the words of an [`Outcome`].
//!
//! The library nests errors several deep; the class is decided by the innermost ones that are recognised.

use std::error::Error;
use std::io;

use super::resolve::ResolveError;
use crate::event::{Answer, Outcome};

/// The class of an error that came before the head of an answer.
pub(super) fn before_answer(error: &reqwest::Error, over_tls: bool) -> Answer {
    let outcome = outcome(error, over_tls);
    Answer::failed(outcome, describe(error))
}

/// An error in words: the innermost cause is what an operator needs.
pub(super) fn describe(error: &reqwest::Error) -> String {
    let innermost = chain(error).last().map(ToString::to_string);
    innermost.unwrap_or_else(|| error.to_string())
}

fn outcome(error: &reqwest::Error, over_tls: bool) -> Outcome {
    for cause in chain(error) {
        if let Some(resolve) = cause.downcast_ref::<ResolveError>() {
            return match resolve {
                ResolveError::Unknown { .. } => Outcome::Dns,
                ResolveError::Refused { .. } => Outcome::TargetRefused,
            };
        }
        if is_tls(cause) {
            return Outcome::Tls;
        }
    }
    if error.is_connect() {
        // A handshake that the peer breaks off leaves a plain IO error behind.
        let refused =
            chain(error).any(|cause| io_kind(cause) == Some(io::ErrorKind::ConnectionRefused));
        let broken_off = chain(error).any(|cause| io_kind(cause).is_some_and(breaks_off));
        return if over_tls && broken_off && !refused {
            Outcome::Tls
        } else {
            Outcome::Connect
        };
    }
    let malformed = chain(error).any(|cause| {
        cause
            .downcast_ref::<hyper::Error>()
            .is_some_and(|e| e.is_parse() || e.is_parse_too_large())
    });
    if malformed {
        Outcome::Body
    } else {
        Outcome::Reset
    }
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| inner(*error))
}

/// The next cause; an `io::Error` made from another error hides it from `source`.
fn inner<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    let wrapped = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref);
    match wrapped {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

fn is_tls(cause: &(dyn Error + 'static)) -> bool {
    cause.is::<rustls::Error>() || cause.is::<rustls::pki_types::InvalidDnsNameError>()
}

fn io_kind(cause: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    cause.downcast_ref::<io::Error>().map(io::Error::kind)
}

fn breaks_off(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, InvalidData, UnexpectedEof,
    };
    matches!(
        kind,
        UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe | InvalidData
    )
}
