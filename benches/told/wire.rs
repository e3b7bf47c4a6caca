//! What the behaviors of a script do on the wire, and what the dispatcher makes of it.

use chaos::history::op::{ANSWERED, ANSWERED_THEN_RESET, PEER_CLOSED};
use chaos::profile::Settings;
use mock_receiver::{Behavior, RetryAfter};

/// What a behavior does on the wire.
pub(super) struct Wire {
    /// The status of an answer that was written whole.
    pub(super) status: Option<u16>,
    /// How the request ended at the receiver.
    pub(super) how: &'static str,
    /// How long it was open, in milliseconds.
    pub(super) lasts_ms: u64,
    /// What the dispatcher settles.
    pub(super) outcome: &'static str,
    /// The status that it tells.
    pub(super) told: Option<u16>,
    /// The `Retry-After` of the answer, in milliseconds.
    pub(super) retry_after_ms: Option<u64>,
}

impl Wire {
    /// What this one does under these settings.
    pub(super) fn of(behavior: &Behavior, settings: &Settings) -> Wire {
        let failed = |how, outcome, lasts_ms| Wire {
            status: None,
            how,
            lasts_ms,
            outcome,
            told: None,
            retry_after_ms: None,
        };
        match behavior {
            Behavior::Answer {
                status,
                after_ms,
                retry_after,
            } => Wire {
                status: Some(*status),
                how: ANSWERED,
                lasts_ms: *after_ms,
                outcome: if (200..300).contains(status) {
                    "delivered"
                } else {
                    "rejected"
                },
                told: Some(*status),
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
                told: Some(*status),
                retry_after_ms: None,
            },
            Behavior::Hang { .. } | Behavior::HangAfterHead { .. } => failed(
                "hung_until_peer_closed",
                "timeout",
                settings.http_timeout_ms,
            ),
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
