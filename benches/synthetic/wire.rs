//! The outcome of each receiver behavior, at the receiver and in the dispatcher.

use chaos::history::op::{ANSWERED, ANSWERED_THEN_RESET, PEER_CLOSED};
use chaos::profile::Settings;
use mock_receiver::{Behavior, RetryAfter};

/// The course of one request.
pub(super) struct Wire {
    /// Status of a response that was sent completely.
    pub(super) status: Option<u16>,
    /// End of the request at the receiver.
    pub(super) how: &'static str,
    /// Time that the request was open.
    pub(super) lasts_ms: u64,
    /// Outcome that the dispatcher settles.
    pub(super) outcome: &'static str,
    /// Status that the dispatcher stores.
    pub(super) reported_status: Option<u16>,
    /// `Retry-After` of the response.
    pub(super) retry_after_ms: Option<u64>,
}

impl Wire {
    /// The course of a request with this behavior under these settings.
    pub(super) fn of(behavior: &Behavior, settings: &Settings) -> Wire {
        let failed = |how, outcome, lasts_ms| Wire {
            status: None,
            how,
            lasts_ms,
            outcome,
            reported_status: None,
            retry_after_ms: None,
        };
        match behavior {
            Behavior::Answer { status, after_ms, retry_after } => Wire {
                status: Some(*status),
                how: ANSWERED,
                lasts_ms: *after_ms,
                outcome: if (200..300).contains(status) { "delivered" } else { "rejected" },
                reported_status: Some(*status),
                retry_after_ms: match retry_after {
                    Some(RetryAfter::Seconds(seconds)) => Some(seconds * 1_000),
                    _ => None,
                },
            },
            Behavior::ResetAfterAnswer { status, .. } => Wire {
                status: Some(*status),
                how: ANSWERED_THEN_RESET,
                lasts_ms: 1,
                outcome: "delivered",
                reported_status: Some(*status),
                retry_after_ms: None,
            },
            Behavior::Hang { .. } | Behavior::HangAfterHead { .. } => {
                failed("hung_until_peer_closed", "timeout", settings.http_timeout_ms)
            }
            Behavior::Drip { .. } => failed(PEER_CLOSED, "timeout", settings.http_timeout_ms),
            Behavior::EndlessBody { .. } => {
                failed("endless_until_peer_closed", "response_too_large", 1)
            }
            Behavior::ResetBeforeAnswer { after_ms } => failed("reset", "reset", *after_ms),
            Behavior::CloseBeforeAnswer { after_ms } => failed("closed", "reset", *after_ms),
            _ => failed("broken_off", "body", 1),
        }
    }
}
