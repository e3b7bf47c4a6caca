//! Draws a schedule from a seed: settings, events with their scripts, and faults by family.

use rand::RngExt;
use rand::seq::IndexedRandom;

use mock_receiver::{Behavior, RetryAfter};

use super::{SimSchedule, Size, TIER};
use crate::history::op::Section;
use crate::plan::PlannedEvent;
use crate::profile::Settings;
use crate::seed::{Seed, Stream};
use crate::sim::failpoint::{Call, Stage};
use crate::sim::fault::{Fault, PlannedFault, When};

/// One of this number of seeds has no fault.
const CALM_ONE_IN: u32 = 4;
/// One of this number of seeds has many hanging hosts and no other fault. Another one has only
/// failed calls that leave orphaned claims.
const SPECIAL_ONE_IN: u32 = 20;
/// Rest of the lease after the deadline of an attempt, in seeds with orphaned claims, in
/// milliseconds. It is longer than the time in which a worker releases such a claim.
const ORPHAN_LEASE_MS: u64 = 2_500;
/// Probability that a run has faults of a family, in percent.
const FAMILY_PERCENT: u32 = 40;
/// Maximum number of faults of one family per run.
const FAMILY_FAULTS_MAX: u32 = 3;
/// Maximum number of the failpoint hit at which a fault strikes.
const PASSES_MAX: u32 = 40;
/// Duration of a hang, in milliseconds. It is longer than every attempt timeout.
const HANG_MS: u64 = 60_000;

impl SimSchedule {
    /// Draws the schedule of `seed`.
    #[must_use]
    pub fn generate(seed: Seed, size: Size) -> Self {
        let mut knobs = seed.stream("sim/knobs");
        let settings = settings(&mut knobs);
        let storm_ms = knobs.random_range(1_500..=5_000);
        let receivers = knobs.random_range(1..=3);
        let mut schedule = SimSchedule {
            tier: TIER.to_owned(),
            seed,
            workers: size.workers,
            receivers,
            per_host: *[2, 8, 64].choose(&mut knobs).expect("there are three"),
            store_ms_max: knobs.random_range(0..=4),
            wire_ms_max: knobs.random_range(0..=4),
            partial_claims_percent: *[0, 30].choose(&mut knobs).expect("there are two"),
            quiet_ms: 0,
            storm_ms,
            events: events(seed, size, storm_ms, receivers, &settings),
            faults: Vec::new(),
            settings,
        };
        if knobs.random_range(0..CALM_ONE_IN) > 0 {
            schedule.faults = faults(seed, &schedule);
        }
        let mut draws = seed.stream("sim/special");
        match draws.random_range(0..SPECIAL_ONE_IN) {
            0 => schedule.crowded(&mut draws, size),
            1 => schedule.orphaned(&mut draws),
            _ => schedule,
        }
    }

    /// Changes a schedule into one in which only the replies to claims and to the searches for
    /// orphaned claims are lost. Other faults would also explain leases that expire.
    fn orphaned(mut self, draws: &mut Stream) -> Self {
        self.settings.lease_ms = self.settings.http_timeout_ms + ORPHAN_LEASE_MS;
        let lost = [Stage::Replied];
        let calls = [Call::Claim, Call::Claim, Call::OwnLeases];
        self.faults = calls.map(|call| pass(draws, &[call], &lost, Fault::StoreError)).into();
        self
    }
}

fn settings(knobs: &mut Stream) -> Settings {
    let http_timeout_ms = knobs.random_range(300..=800);
    Settings {
        http_timeout_ms,
        backoff_base_ms: knobs.random_range(20..=200),
        backoff_cap_ms: knobs.random_range(400..=1_500),
        lease_ms: http_timeout_ms * 3 / 2 + knobs.random_range(0..=1_500),
        poll_ms: knobs.random_range(100..=600),
        max_attempts: knobs.random_range(3..=8),
        max_abandoned: knobs.random_range(2..=5),
        max_in_flight: *[4, 16, 64].choose(knobs).expect("there are three"),
        max_in_flight_per_host: None,
        max_api_connections: None,
    }
}

fn events(
    seed: Seed,
    size: Size,
    storm_ms: u64,
    receivers: u32,
    settings: &Settings,
) -> Vec<PlannedEvent> {
    let mut times = seed.stream("sim/times");
    let mut at_ms: Vec<u64> = (0..size.events).map(|_| times.random_range(0..storm_ms)).collect();
    at_ms.sort_unstable();
    let mut posts = seed.stream("sim/posts");
    let mut scripts = seed.stream("sim/scripts");
    let plan = |(at_ms, ordinal): (u64, u64)| {
        let keyed = posts.random_range(0..2) == 0;
        PlannedEvent {
            dies: None,
            ordinal,
            section: Section::Main,
            at_ms,
            receiver: posts.random_range(0..receivers),
            key: keyed.then(|| format!("key-{ordinal}")),
            repeated: keyed && posts.random_range(0..4) == 0,
            payload: format!(r#"{{ "n":{ordinal}.0, "of":"é" }}"#),
            script: script(&mut scripts, settings),
        }
    };
    at_ms.into_iter().zip(0..).map(plan).collect()
}

/// Usually draws some failures and then a success. Some events become dead.
fn script(draws: &mut Stream, settings: &Settings) -> Vec<Behavior> {
    let failures = match draws.random_range(0..20) {
        0..=8 => 0,
        9..=17 => draws.random_range(1..settings.max_attempts),
        18 => settings.max_attempts,
        _ => {
            return vec![Behavior::Answer { status: 410, retry_after: None, after_ms: 0 }];
        }
    };
    let mut script: Vec<Behavior> = (0..failures).map(|_| failure(draws, settings)).collect();
    script.push(success(draws, settings));
    script
}

fn failure(draws: &mut Stream, settings: &Settings) -> Behavior {
    let after_ms = delay(draws, settings);
    match draws.random_range(0..16) {
        0 | 1 => Behavior::Hang { hold_ms: HANG_MS },
        2 => Behavior::ResetBeforeAnswer { after_ms },
        3 => Behavior::ResetMidBody { status: 200 },
        4 => Behavior::TruncatedBody { status: 200 },
        5 | 6 => Behavior::Answer {
            status: *[429, 503].choose(draws).expect("there are two"),
            retry_after: Some(RetryAfter::Seconds(draws.random_range(1..=2))),
            after_ms,
        },
        7 => Behavior::EndlessBody { status: 200, framing: mock_receiver::Framing::default() },
        // A complete success after the timeout: delivered at the receiver, a timeout at the worker.
        8 => Behavior::Answer {
            status: 200,
            retry_after: None,
            after_ms: settings.http_timeout_ms + 50,
        },
        _ => Behavior::Answer {
            status: *[400, 404, 500, 502, 503, 302, 429].choose(draws).expect("there are some"),
            retry_after: None,
            after_ms,
        },
    }
}

fn success(draws: &mut Stream, settings: &Settings) -> Behavior {
    if draws.random_range(0..40) == 0 {
        let status = 200;
        return Behavior::ResetAfterAnswer { status, hold_ms: 0 };
    }
    Behavior::Answer {
        status: *[200, 200, 201, 204].choose(draws).expect("there are four"),
        retry_after: None,
        after_ms: delay(draws, settings),
    }
}

fn delay(draws: &mut Stream, settings: &Settings) -> u64 {
    match draws.random_range(0..3) {
        0 => draws.random_range(0..=settings.http_timeout_ms * 3 / 4),
        1 => draws.random_range(0..=20),
        _ => 0,
    }
}

/// The stream label of a family and the function that draws one fault.
type Family = (&'static str, fn(&mut Stream, &SimSchedule) -> PlannedFault);

const FAMILIES: &[Family] = &[
    ("kill", |draws, plan| strike(draws, plan, kill)),
    ("pause", |draws, plan| strike(draws, plan, pause)),
    ("stop", |draws, plan| timed(draws, plan, kill_in_order)),
    ("panic", |draws, _| pass(draws, &[Call::Attempt], &[Stage::Sent], Fault::Panic)),
    ("short", |draws, plan| strike(draws, plan, short)),
    ("presence", |draws, plan| strike(draws, plan, presence)),
    ("error", |draws, _| pass(draws, STORE, &[Stage::Sent, Stage::Replied], Fault::StoreError)),
    ("slow", |draws, _| {
        let by_ms = *[20, 200, 1_500, 6_000].choose(draws).expect("there are four");
        let fault = Fault::StoreSlow { by_ms };
        pass(draws, STORE, &[Stage::Sent, Stage::Applied], fault)
    }),
    ("cut", |draws, plan| strike(draws, plan, cut)),
    ("down", |draws, plan| strike(draws, plan, down)),
    ("step", |draws, plan| timed(draws, plan, step)),
    ("drift", |draws, plan| timed(draws, plan, drift)),
    ("refuse_data", |draws, plan| timed(draws, plan, |_, _| Fault::StoreRefuse)),
    ("refuse", |draws, plan| timed(draws, plan, refuse)),
    ("response", |draws, _| pass(draws, &[Call::Attempt], &[Stage::Replied], Fault::ResponseLost)),
];

/// Calls at which an error or a delay strikes.
const STORE: &[Call] = &[
    Call::Insert,
    Call::Claim,
    Call::Settle,
    Call::Settle,
    Call::Release,
    Call::Reclaim,
    Call::NextDue,
    Call::Absent,
    Call::Forget,
];

/// Calls at which a kill, a pause or a cut strikes.
const HOT: &[Call] = &[
    Call::Insert,
    Call::Claim,
    Call::Claim,
    Call::Attempt,
    Call::Attempt,
    Call::Settle,
    Call::Settle,
    Call::Reclaim,
    Call::Release,
];

const EVERY_STAGE: [Stage; 3] = [Stage::Sent, Stage::Applied, Stage::Replied];

fn faults(seed: Seed, plan: &SimSchedule) -> Vec<PlannedFault> {
    let mut faults = Vec::new();
    for (name, family) in FAMILIES {
        let mut draws = seed.stream(name);
        if draws.random_range(0..100) >= FAMILY_PERCENT {
            continue;
        }
        for _ in 0..draws.random_range(1..=FAMILY_FAULTS_MAX) {
            faults.push(family(&mut draws, plan));
        }
    }
    faults
}

/// Draws a time or a failpoint as trigger, with equal probability.
fn strike(
    draws: &mut Stream,
    plan: &SimSchedule,
    fault: fn(&mut Stream, &SimSchedule) -> Fault,
) -> PlannedFault {
    if draws.random_range(0..2) == 0 {
        return timed(draws, plan, fault);
    }
    let fault = fault(draws, plan);
    pass(draws, HOT, &EVERY_STAGE, fault)
}

fn timed(
    draws: &mut Stream,
    plan: &SimSchedule,
    fault: fn(&mut Stream, &SimSchedule) -> Fault,
) -> PlannedFault {
    let on = When::At {
        ms: draws.random_range(0..plan.storm_ms),
        worker: draws.random_range(0..plan.workers),
    };
    let fault = fault(draws, plan);
    PlannedFault { on, fault }
}

fn pass(draws: &mut Stream, calls: &[Call], stages: &[Stage], fault: Fault) -> PlannedFault {
    let call = *calls.choose(draws).expect("there are some");
    let stage = *stages.choose(draws).expect("there are some");
    // A run makes few of these calls.
    let most = match call {
        Call::OwnLeases | Call::Reclaim | Call::Release | Call::Forget => 4,
        _ => PASSES_MAX,
    };
    let on = When::Pass { point: call.at(stage), nth: draws.random_range(1..=most) };
    PlannedFault { on, fault }
}

fn kill(draws: &mut Stream, _: &SimSchedule) -> Fault {
    Fault::Kill { down_ms: draws.random_range(1..=1_500) }
}

fn kill_in_order(draws: &mut Stream, _: &SimSchedule) -> Fault {
    Fault::Stop { down_ms: draws.random_range(1..=500) }
}

fn pause(draws: &mut Stream, plan: &SimSchedule) -> Fault {
    let past = draws.random_range(0..3) > 0;
    let for_ms = if past {
        plan.settings.lease_ms + draws.random_range(0..=8_000)
    } else {
        draws.random_range(10..=plan.settings.lease_ms)
    };
    Fault::Pause { for_ms }
}

fn short(draws: &mut Stream, plan: &SimSchedule) -> Fault {
    let of_one = draws.random_range(0..2) == 0;
    Fault::Short {
        receiver: of_one.then(|| draws.random_range(0..plan.receivers)),
        for_ms: draws.random_range(50..=2_500),
    }
}

fn presence(draws: &mut Stream, _: &SimSchedule) -> Fault {
    Fault::PresenceCut { for_ms: *[50, 400, 1_500, 4_000].choose(draws).expect("there are four") }
}

fn cut(draws: &mut Stream, _: &SimSchedule) -> Fault {
    Fault::StoreCut { for_ms: *[20, 300, 2_000, 6_000].choose(draws).expect("there are four") }
}

fn down(draws: &mut Stream, _: &SimSchedule) -> Fault {
    Fault::StoreDown { for_ms: *[50, 500, 2_500].choose(draws).expect("there are three") }
}

fn step(draws: &mut Stream, _: &SimSchedule) -> Fault {
    Fault::ClockStep {
        by_ms: draws.random_range(-20_000..=20_000),
        for_ms: draws.random_range(200..=4_000),
    }
}

fn drift(draws: &mut Stream, _: &SimSchedule) -> Fault {
    Fault::ClockDrift {
        per_mille: draws.random_range(-300..=300),
        for_ms: draws.random_range(500..=5_000),
    }
}

fn refuse(draws: &mut Stream, plan: &SimSchedule) -> Fault {
    Fault::Refuse {
        receiver: draws.random_range(0..plan.receivers),
        for_ms: draws.random_range(50..=1_500),
    }
}
