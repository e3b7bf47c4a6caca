//! Mutants of the transport.

use bytes::Bytes;
use dispatcher::event::{AttemptResult, Outcome};
use dispatcher::transport::{NotSent, Request};

use super::Mutant;

const fn delivered(status: u16) -> AttemptResult {
    AttemptResult { outcome: Outcome::Delivered { status }, error: None, snippet: None }
}

/// Reports a delivery and sends nothing.
pub(super) struct ReportsUnsentDelivered;

impl Mutant for ReportsUnsentDelivered {
    fn instead_of_sending(&self, _: &Request) -> Option<AttemptResult> {
        Some(delivered(200))
    }
}

/// Counts some failed outcomes as success.
pub(super) struct CountsAsSuccess(pub(super) fn(&Outcome) -> bool);

impl Mutant for CountsAsSuccess {
    fn answer(&self, _: &Request, answer: AttemptResult) -> AttemptResult {
        if (self.0)(&answer.outcome) {
            return delivered(answer.outcome.status().unwrap_or(200));
        }
        answer
    }
}

pub(super) const fn is_500(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Rejected { status: 500, .. })
}

pub(super) const fn is_timeout(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Timeout)
}

/// Returns true if the receiver sent a status and an incomplete or too large body.
pub(super) const fn is_incomplete(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Body | Outcome::ResponseTooLarge { .. })
}

/// Hides deadlines from the limits of hosts, so that hanging hosts may take every permit.
pub(super) struct IgnoresDeadlines;

impl Mutant for IgnoresDeadlines {
    fn answer(&self, _: &Request, answer: AttemptResult) -> AttemptResult {
        if is_timeout(&answer.outcome) {
            return AttemptResult::failed(Outcome::Reset, "the deadline passed");
        }
        answer
    }
}

/// Counts the status 204 as a failure.
pub(super) struct Counts204AsFailure;

impl Mutant for Counts204AsFailure {
    fn answer(&self, _: &Request, answer: AttemptResult) -> AttemptResult {
        if answer.outcome == (Outcome::Delivered { status: 204 }) {
            return AttemptResult::failed(Outcome::Body, "no body");
        }
        answer
    }
}

/// Counts a failed attempt if local exhaustion prevented the attempt.
pub(super) struct CountsLocalExhaustion;

impl Mutant for CountsLocalExhaustion {
    fn not_sent(&self, not_sent: NotSent) -> Result<AttemptResult, NotSent> {
        Ok(AttemptResult::failed(Outcome::Connect, not_sent.to_string()))
    }
}

/// Changes the request before it is sent.
pub(super) struct Sends(pub(super) fn(&mut Request));

impl Mutant for Sends {
    fn request(&self, request: &mut Request) {
        (self.0)(request);
    }
}

/// Replaces the signature.
pub(super) fn wrong_signature(request: &mut Request) {
    request.signature = "v1,bm90IHRoZSByaWdodCBzaWduYXR1cmUgYXQgYWxsISE=".into();
}

/// Sends another timestamp than the signed one.
pub(super) fn wrong_timestamp(request: &mut Request) {
    request.started_at -= chrono::TimeDelta::hours(1);
}

/// Replaces the receiver.
pub(super) fn wrong_target(request: &mut Request) {
    request.target_url = request.target_url.replacen("//r", "//x", 1);
}

/// Replaces the payload.
pub(super) fn wrong_bytes(request: &mut Request) {
    request.payload = Bytes::from_static(b"{}");
}
