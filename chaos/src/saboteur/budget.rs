//! Within how much of a run a saboteur must be caught, and the profile of that run.

use crate::fault::Kind;
use crate::nemesis::{HangReceiver, RECEIVER_FAULT_MS_MAX};
use crate::profile::{Profile, Settings};

/// Events that a saboteur is given to betray itself.
const EVENTS: u32 = 40;
/// How long they are posted, in milliseconds.
const STORM_MS: u64 = 2_000;

/// Events of one whose targets wait for one another: those of one target fill the slots in a second.
const EVENTS_BESIDE_A_HANG: u32 = 220;
/// How long those are posted after the baseline, in milliseconds: longer than it takes the first hang to
/// begin and to be felt.
const STORM_MS_WITH_A_HANG: u64 = 8_000;
/// How long they are posted in peace before, in milliseconds.
const BASELINE_MS: u64 = 2_000;

/// Within how much of a run a saboteur must be caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Events that are posted.
    pub events: u32,
    /// How long they are posted, in milliseconds.
    pub storm_ms: u64,
    /// Workers that share them.
    pub workers: u32,
    /// Attempts that each has open at most, and those of them to one host; none where they are to be no
    /// matter.
    pub slots: Option<(u32, u32)>,
    /// A fault, beside the kill, without which it would not betray itself; drawn twice.
    pub fault: Option<Kind>,
}

impl Budget {
    /// The budget of most saboteurs.
    #[must_use]
    pub const fn of_workers(workers: u32) -> Budget {
        Budget {
            events: EVENTS,
            storm_ms: STORM_MS,
            workers,
            slots: None,
            fault: None,
        }
    }

    /// The budget of one whose targets wait for one another, by few slots and a receiver that hangs.
    #[must_use]
    pub const fn of_slots(in_all: u32, to_one_host: u32) -> Budget {
        Budget {
            events: EVENTS_BESIDE_A_HANG,
            storm_ms: STORM_MS_WITH_A_HANG,
            slots: Some((in_all, to_one_host)),
            ..Budget::of_workers(1).with_fault(HangReceiver::KIND)
        }
    }

    /// The same with two faults of this kind.
    #[must_use]
    pub const fn with_fault(self, fault: Kind) -> Budget {
        let fault = Some(fault);
        Budget { fault, ..self }
    }

    /// Kills excuse what two workers send twice, and what waits: such must betray themselves without one.
    const fn kills(self) -> u32 {
        (self.workers == 1 && self.slots.is_none()) as u32
    }

    /// The run that it pays for: few attempts and little slack, since a saboteur's events may never end.
    #[must_use]
    pub fn profile(self) -> Profile {
        let profile = Profile {
            name: "sabotage".into(),
            events: self.events,
            baseline_ms: 0,
            storm_ms: self.storm_ms,
            workers: self.workers,
            failures_max: 3,
            answer_delay_ms_max: 300,
            kills: self.kills(),
            faults: self
                .fault
                .map(|kind| (kind.name.to_owned(), 2))
                .into_iter()
                .collect(),
            kills_required: self.kills(),
            payload_bytes_max: 8 * 1024,
            default_events: 0,
            drain_slack_ms: 3_000,
            settings: Settings {
                // On a loaded machine a request may wait for a second before its receiver sees it: with a
                // shorter deadline it was sent again for no cause that anybody could see.
                http_timeout_ms: 2_500,
                backoff_base_ms: 50,
                backoff_cap_ms: 400,
                lease_ms: 4_000,
                max_attempts: 6,
                ..Settings::scaled()
            },
            ..Profile::chaotic()
        };
        match self.slots {
            Some(slots) => crowded(profile, slots),
            None => profile,
        }
    }
}

/// The same with so few slots that one host can take all of them: what hangs outlasts the hang, and
/// nothing else takes long. A baseline says how long an event waits in peace.
fn crowded(profile: Profile, (in_all, to_one_host): (u32, u32)) -> Profile {
    Profile {
        baseline_ms: BASELINE_MS,
        failure_percent: 30,
        hang_percent: 0,
        answer_delay_ms_max: 100,
        settings: Settings {
            http_timeout_ms: RECEIVER_FAULT_MS_MAX + 1_000,
            lease_ms: 2 * RECEIVER_FAULT_MS_MAX,
            max_in_flight: in_all,
            max_in_flight_per_host: Some(to_one_host),
            ..profile.settings
        },
        ..profile
    }
}
