//! What the receiver does with the attempts of one event: failures first, then a success.

use rand::RngExt;
use rand::seq::IndexedRandom;

use mock_receiver::{Behavior, RetryAfter};

use crate::history::op::Scripted;
use crate::profile::Profile;
use crate::seed::Stream;

/// Longest delay of an answer that is called quick, in milliseconds.
const QUICK_MS_MAX: u64 = 20;
/// How long a hang lasts at most, in milliseconds: far longer than any deadline of an attempt.
const HANG_MS: u64 = 60_000;
/// Statuses that are failures and nothing more.
const FAILING: &[u16] = &[
    400, 401, 404, 408, 418, 422, 425, 500, 500, 500, 502, 503, 504, 302, 308,
];

/// Of two deaths, this many come by 410.
const GONE_OF_2: u32 = 1;

/// Failures until the budget of attempts is spent, or a 410 before that; and the reason of that death.
pub(super) fn deadly(draws: &mut Stream, profile: &Profile) -> (Vec<Behavior>, String) {
    let is_gone = draws.random_range(0..2) < GONE_OF_2;
    let budget = profile.main_settings().max_attempts;
    let failures = if is_gone {
        draws.random_range(0..budget)
    } else {
        budget
    };
    let mut script: Vec<Behavior> = (0..failures).map(|_| failure(draws, profile)).collect();
    if is_gone {
        script.push(Behavior::answer(410));
    }
    let reason = if is_gone { "gone" } else { "exhausted" };
    (script, reason.to_owned())
}

/// Each attempt fails with the profile's chance, at most
/// `failures_max` in a row; the last one succeeds.
pub(super) fn surviving(draws: &mut Stream, profile: &Profile) -> Vec<Behavior> {
    let mut script = Vec::new();
    while script.len() < profile.failures_max as usize {
        let draw = draws.random_range(0..100);
        if draw >= profile.failure_percent {
            break;
        }
        let hangs = draw < profile.hang_percent;
        script.push(if hangs {
            hang(draws)
        } else {
            failure(draws, profile)
        });
    }
    script.push(success(draws, profile));
    script
}

fn hang(draws: &mut Stream) -> Behavior {
    if draws.random_range(0..4) == 0 {
        return Behavior::HangAfterHead {
            status: 200,
            hold_ms: HANG_MS,
        };
    }
    Behavior::Hang { hold_ms: HANG_MS }
}

fn failure(draws: &mut Stream, profile: &Profile) -> Behavior {
    let after_ms = delay(draws, profile);
    match draws.random_range(0..20) {
        0 => Behavior::ResetBeforeAnswer { after_ms },
        1 => Behavior::CloseBeforeAnswer { after_ms },
        2 => Behavior::PartialHead,
        3 => Behavior::ResetMidBody { status: 200 },
        4 => Behavior::TruncatedBody { status: 200 },
        5 => Behavior::BadChunking { status: 200 },
        6 => Behavior::Garbage,
        7 => {
            let status = *[429, 503].choose(draws).expect("there are two");
            Behavior::Answer {
                status,
                retry_after: Some(RetryAfter::Seconds(1)),
                after_ms,
            }
        }
        _ => {
            let status = *FAILING.choose(draws).expect("the list has entries");
            Behavior::Answer {
                status,
                retry_after: None,
                after_ms,
            }
        }
    }
}

fn success(draws: &mut Stream, profile: &Profile) -> Behavior {
    let after_ms = delay(draws, profile);
    match draws.random_range(0..40) {
        0 if profile.failure_percent > 0 => Behavior::ResetAfterAnswer {
            status: 200,
            hold_ms: 0,
        },
        1 => Behavior::Answer {
            status: 204,
            retry_after: None,
            after_ms,
        },
        2 => Behavior::Answer {
            status: 201,
            retry_after: None,
            after_ms,
        },
        _ => Behavior::Answer {
            status: 200,
            retry_after: None,
            after_ms,
        },
    }
}

fn delay(draws: &mut Stream, profile: &Profile) -> u64 {
    let slow = draws.random_range(0..10) < 3;
    let most = if slow {
        profile.answer_delay_ms_max
    } else {
        QUICK_MS_MAX
    };
    draws.random_range(0..=most)
}

/// What the history says of a behavior.
impl From<&Behavior> for Scripted {
    fn from(behavior: &Behavior) -> Scripted {
        let (after_ms, retry_after_s) = match behavior {
            Behavior::Answer {
                after_ms,
                retry_after: Some(RetryAfter::Seconds(seconds)),
                ..
            } => (*after_ms, Some(*seconds)),
            Behavior::Answer { after_ms, .. }
            | Behavior::ResetBeforeAnswer { after_ms }
            | Behavior::CloseBeforeAnswer { after_ms } => (*after_ms, None),
            _ => (0, None),
        };
        let status = behavior.status().map(|status| format!(" {status}"));
        Scripted {
            what: format!("{}{}", behavior.kind(), status.unwrap_or_default()),
            after_ms,
            retry_after_s,
        }
    }
}
