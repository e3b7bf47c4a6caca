//! Mistakes between the worker and the receiver.

use bytes::Bytes;
use dispatcher::event::{AttemptResult, Outcome};
use dispatcher::transport::{NotSent, Request};

use super::Mutant;

const fn taken(status: u16) -> AttemptResult {
    AttemptResult {
        outcome: Outcome::Delivered { status },
        error: None,
        snippet: None,
    }
}

/// Says that it was delivered and sends nothing.
pub(super) struct SaysDeliveredUnsent;

impl Mutant for SaysDeliveredUnsent {
    fn instead_of_sending(&self, _: &Request) -> Option<AttemptResult> {
        Some(taken(200))
    }
}

/// Takes some outcomes for a success.
pub(super) struct TakesForSuccess(pub(super) fn(&Outcome) -> bool);

impl Mutant for TakesForSuccess {
    fn answer(&self, _: &Request, answer: AttemptResult) -> AttemptResult {
        if (self.0)(&answer.outcome) {
            return taken(answer.outcome.status().unwrap_or(200));
        }
        answer
    }
}

/// Takes a success for a failure.
pub(super) struct TakesSuccessForFailure;

impl Mutant for TakesSuccessForFailure {
    fn answer(&self, _: &Request, answer: AttemptResult) -> AttemptResult {
        if answer.outcome == (Outcome::Delivered { status: 204 }) {
            return AttemptResult::failed(Outcome::Body, "no body");
        }
        answer
    }
}

/// Blames the receiver for what its own machine is short of.
pub(super) struct BlamesTheReceiver;

impl Mutant for BlamesTheReceiver {
    fn not_sent(&self, why: NotSent) -> Result<AttemptResult, NotSent> {
        Ok(AttemptResult::failed(Outcome::Connect, why.to_string()))
    }
}

/// Changes the request on its way out.
pub(super) struct Sends(pub(super) fn(&mut Request));

impl Mutant for Sends {
    fn request(&self, request: &mut Request) {
        (self.0)(request);
    }
}

/// Signs with something else.
pub(super) fn signed_wrongly(request: &mut Request) {
    request.signature = "v1,bm90IHRoZSByaWdodCBzaWduYXR1cmUgYXQgYWxsISE=".into();
}

/// Says another time than was signed.
pub(super) fn at_another_time(request: &mut Request) {
    request.started_at -= chrono::TimeDelta::hours(1);
}

/// Sends to another receiver.
pub(super) fn to_another(request: &mut Request) {
    request.target_url = request.target_url.replacen("//r", "//x", 1);
}

/// Sends other bytes.
pub(super) fn other_bytes(request: &mut Request) {
    request.payload = Bytes::from_static(b"{}");
}
