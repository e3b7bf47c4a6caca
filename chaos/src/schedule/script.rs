//! The script of one event: how the receiver treats its attempts. Failures come first, then a
//! success.

use rand::RngExt;
use rand::seq::IndexedRandom;

use mock_receiver::{Behavior, Framing, RetryAfter};

use crate::history::op::Scripted;
use crate::profile::Profile;
use crate::seed::Stream;

/// Longest delay of a quick response, in milliseconds.
const QUICK_MS_MAX: u64 = 20;
/// Longest hang, in milliseconds. It exceeds every attempt deadline.
const HANG_MS: u64 = 60_000;
/// Time before each byte of a dripping response, in milliseconds. Each wait for one byte is short.
const DRIP_EVERY_MS: u64 = 100;
/// Statuses that count as failures and have no other effect.
const FAILING: &[u16] =
    &[400, 401, 404, 408, 418, 422, 425, 500, 500, 500, 502, 503, 504, 302, 308];

/// Of two deaths, this number is caused by a 410.
const GONE_OF_2: u32 = 1;

/// Failures until the attempts are used up, or a 410 before that. Returns the reason of the death,
/// too.
pub(super) fn deadly(
    draws: &mut Stream,
    profile: &Profile,
    attempts_max: u32,
) -> (Vec<Behavior>, String) {
    let is_gone = draws.random_range(0..2) < GONE_OF_2;
    let failures = if is_gone { draws.random_range(0..attempts_max) } else { attempts_max };
    let mut script: Vec<Behavior> = (0..failures).map(|_| failure(draws, profile)).collect();
    if is_gone {
        script.push(Behavior::answer(410));
    }
    let reason = if is_gone { "gone" } else { "exhausted" };
    (script, reason.to_owned())
}

/// Each attempt fails with the probability of the profile, at most `failures_max` times in a row.
/// The last attempt succeeds.
pub(super) fn surviving(draws: &mut Stream, profile: &Profile) -> Vec<Behavior> {
    let mut script = Vec::new();
    while script.len() < profile.failures_max as usize {
        let draw = draws.random_range(0..100);
        if draw >= profile.failure_percent {
            break;
        }
        let hangs = draw < profile.hang_percent;
        script.push(if hangs { hang(draws) } else { failure(draws, profile) });
    }
    script.push(success(draws, profile));
    script
}

/// A behavior that only the deadline of the attempt ends.
fn hang(draws: &mut Stream) -> Behavior {
    match draws.random_range(0..8) {
        0 | 1 => Behavior::HangAfterHead { status: 200, hold_ms: HANG_MS },
        2 => Behavior::Drip {
            status: 200,
            bytes: (HANG_MS / DRIP_EVERY_MS) as u32,
            every_ms: DRIP_EVERY_MS,
        },
        _ => Behavior::Hang { hold_ms: HANG_MS },
    }
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
            Behavior::Answer { status, retry_after: Some(RetryAfter::Seconds(1)), after_ms }
        }
        8 => Behavior::EndlessBody {
            status: 200,
            framing: *[Framing::Chunked, Framing::UntilClose].choose(draws).expect("there are two"),
        },
        _ => {
            let status = *FAILING.choose(draws).expect("the list has entries");
            Behavior::Answer { status, retry_after: None, after_ms }
        }
    }
}

fn success(draws: &mut Stream, profile: &Profile) -> Behavior {
    let after_ms = delay(draws, profile);
    match draws.random_range(0..40) {
        0 if profile.failure_percent > 0 => Behavior::ResetAfterAnswer { status: 200, hold_ms: 0 },
        1 => Behavior::Answer { status: 204, retry_after: None, after_ms },
        2 => Behavior::Answer { status: 201, retry_after: None, after_ms },
        _ => Behavior::Answer { status: 200, retry_after: None, after_ms },
    }
}

fn delay(draws: &mut Stream, profile: &Profile) -> u64 {
    let slow = draws.random_range(0..10) < 3;
    let most = if slow { profile.answer_delay_ms_max } else { QUICK_MS_MAX };
    draws.random_range(0..=most)
}

/// The form of a behavior in the history.
impl From<&Behavior> for Scripted {
    fn from(behavior: &Behavior) -> Scripted {
        let (after_ms, retry_after_s) = match behavior {
            Behavior::Answer {
                after_ms, retry_after: Some(RetryAfter::Seconds(seconds)), ..
            }
            | Behavior::AnswerThen {
                after_ms,
                retry_after: Some(RetryAfter::Seconds(seconds)),
                ..
            } => (*after_ms, Some(*seconds)),
            Behavior::Answer { after_ms, .. }
            | Behavior::AnswerThen { after_ms, .. }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::seed::Seed;

    // Shares of about 26,000 attempts: 8 % end at a deadline, 62 % are other failures.
    #[test]
    fn one_in_eight_hangs_drips_and_one_in_twenty_failures_is_endless() {
        let profile = Profile::chaotic();
        let mut draws = Seed::new(0x5eed).stream("receivers/scripts");
        let scripts = (0..8_000).map(|_| surviving(&mut draws, &profile));
        let mut drawn: BTreeMap<&str, usize> = BTreeMap::new();
        for behavior in scripts.flat_map(|script| script.into_iter().rev().skip(1)) {
            *drawn.entry(behavior.kind()).or_default() += 1;
        }
        let hangs = drawn["hang"] + drawn["hang_after_head"] + drawn["drip"];
        let failures = drawn.values().sum::<usize>() - hangs;
        let per_thousand = |part: usize, of: usize| 1_000 * part / of;
        let shares = [
            per_thousand(drawn["drip"], hangs),
            per_thousand(drawn["hang_after_head"], hangs),
            per_thousand(drawn["endless_body"], failures),
        ];
        assert!((100..150).contains(&shares[0]), "{shares:?}");
        assert!((220..280).contains(&shares[1]), "{shares:?}");
        assert!((40..60).contains(&shares[2]), "{shares:?}");
    }

    #[test]
    fn dripping_response_outlasts_every_deadline_in_short_pauses() {
        let mut draws = Seed::new(1).stream("receivers/scripts");
        let mut hangs = std::iter::repeat_with(|| hang(&mut draws));
        let drip = hangs.find_map(|behavior| match behavior {
            Behavior::Drip { bytes, every_ms, .. } => Some((u64::from(bytes), every_ms)),
            _ => None,
        });
        let (bytes, every_ms) = drip.expect("the iterator has no end");
        for (name, _) in crate::profile::named::PROFILES {
            let profile = Profile::named(name).expect("a listed profile exists");
            let deadline_ms = profile.settings.http_timeout_ms;
            assert!(every_ms * 2 < deadline_ms && bytes * every_ms > 2 * deadline_ms);
        }
    }
}
