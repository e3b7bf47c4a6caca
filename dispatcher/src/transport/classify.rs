//! What the client library's error means in the words of an [`Outcome`].
//!
//! The library nests errors several deep; the class is decided by those of ours among them, if there is one.

use std::error::Error;
use std::io;

use hyper_util::client::legacy;

use super::dial::DialError;
use super::resolve::ResolveError;
use super::shortage::NotSent;
use crate::event::{AttemptResult, Outcome};

/// The class of an error that came before the whole head of an answer; `heard` says whether a byte of it had come.
pub(super) fn before_answer(error: &legacy::Error, heard: bool) -> Result<AttemptResult, NotSent> {
    let dial = chain(error).find_map(<dyn Error>::downcast_ref::<DialError>);
    let outcome = match dial {
        Some(DialError::NotSent(why)) => return Err(why.clone()),
        Some(DialError::Resolve(ResolveError::Unknown { .. })) => Outcome::Dns,
        Some(DialError::Resolve(ResolveError::Refused { .. })) => Outcome::TargetRefused,
        Some(DialError::Tcp(_)) => Outcome::Connect,
        Some(DialError::Tls(_) | DialError::Name(_)) => Outcome::Tls,
        None if heard => Outcome::Body,
        // A server that wants a certificate of ours says so only when the handshake is over on our side.
        None if chain(error).any(<dyn Error>::is::<rustls::Error>) => Outcome::Tls,
        None => Outcome::Reset,
    };
    Ok(AttemptResult::failed(outcome, describe(error)))
}

/// An error in words: the innermost cause is what an operator needs.
pub(super) fn describe(error: &(dyn Error + 'static)) -> String {
    let innermost = chain(error).last().map(ToString::to_string);
    innermost.unwrap_or_else(|| error.to_string())
}

/// An error and its causes, outermost first.
pub(super) fn chain<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
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
