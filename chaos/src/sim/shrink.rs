//! Shrinking: from a failing schedule to one of a few lines that fails in the same way.
//!
//! Faults go first, then events, then everything that is a number. A step is kept only if the same
//! invariant is still broken; it is tried again until nothing more can be left out. All of it is a
//! function of the schedule: the same failure shrinks to the same few lines.

use std::sync::Arc;

use mock_receiver::Behavior;

use super::fault::{Fault, When};
use super::mutant::Mutant;
use super::run::Simulator;
use super::schedule::SimSchedule;
use crate::fault::Target;
use crate::history::op::Op;
use crate::schedule::PlannedEvent;

/// Runs that one shrinking takes at most.
pub const PROBES_MAX: u32 = 2_000;

/// A schedule made small, and what that took.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The small one.
    pub schedule: SimSchedule,
    /// Runs that were made.
    pub probes: u32,
}

/// Makes a schedule small that breaks the invariant of `checker`.
#[must_use]
pub fn shrink(
    schedule: &SimSchedule,
    checker: &str,
    mutant: Option<&'static dyn Mutant>,
) -> Shrunk {
    let mut shrinker = Shrinker {
        simulator: Simulator::new(),
        checker,
        mutant,
        best: schedule.clone(),
        probes: 0,
    };
    shrinker.by_time();
    loop {
        let before = shrinker.best.clone();
        shrinker.fewer(
            |s| s.faults.len(),
            |s, from, to| drop(s.faults.drain(from..to)),
        );
        // With fewer events, a point is passed less often.
        for quarters in [4, 3, 2, 1] {
            shrinker.fewer(
                |s| s.events.len(),
                |s, from, to| {
                    s.events.drain(from..to);
                    sooner(s, quarters);
                },
            );
        }
        shrinker.plainer_settings();
        shrinker.plainer_events();
        shrinker.plainer_faults();
        if shrinker.best == before || shrinker.probes >= PROBES_MAX {
            break;
        }
    }
    Shrunk {
        schedule: shrinker.best,
        probes: shrinker.probes,
    }
}

struct Shrinker<'a> {
    simulator: Simulator,
    checker: &'a str,
    mutant: Option<&'static dyn Mutant>,
    best: SimSchedule,
    probes: u32,
}

impl Shrinker<'_> {
    /// Takes a change if the same invariant is still broken.
    fn attempt(&mut self, change: impl FnOnce(&mut SimSchedule)) -> bool {
        let mut candidate = self.best.clone();
        change(&mut candidate);
        if candidate == self.best || self.probes >= PROBES_MAX {
            return false;
        }
        self.probes += 1;
        let plan = Arc::new(candidate);
        let ran = self.simulator.run(&plan, self.mutant);
        let broken = ran
            .findings()
            .into_iter()
            .any(|finding| finding.checker == self.checker && finding.verdict.is_invalid());
        if broken {
            self.best = Arc::unwrap_or_clone(plan);
        }
        broken
    }

    /// Leaves out as many as possible of a list: big parts first, then one by one.
    fn fewer(
        &mut self,
        len: impl Fn(&SimSchedule) -> usize,
        drain: impl Fn(&mut SimSchedule, usize, usize),
    ) {
        let mut part = len(&self.best);
        while part > 0 {
            let mut from = 0;
            while from < len(&self.best) {
                let to = (from + part).min(len(&self.best));
                if !self.attempt(|schedule| drain(schedule, from, to)) {
                    from = to;
                }
            }
            part /= 2;
        }
    }

    /// Faults that strike at a pass strike at that time instead, where that fails in the same way: a time
    /// does not move when events are left out.
    fn by_time(&mut self) {
        let ran = self
            .simulator
            .run(&Arc::new(self.best.clone()), self.mutant);
        for (t, op) in ran.ops {
            let Op::FaultStart(start) = op else { continue };
            let worker = match start.target {
                Target::Process { worker, .. } => worker,
                _ => 0,
            };
            let at = When::At {
                ms: t / 1_000,
                worker,
            };
            let index = usize::try_from(start.fault).unwrap_or(1) - 1;
            self.attempt(|s| s.faults[index].on = at);
        }
    }

    fn plainer_settings(&mut self) {
        self.attempt(|s| s.partial_claims_percent = 0);
        self.attempt(|s| s.store_ms_max = 0);
        self.attempt(|s| s.wire_ms_max = 0);
        self.attempt(|s| s.workers = 1);
        self.attempt(|s| {
            s.receivers = 1;
            for event in &mut s.events {
                event.receiver = 0;
            }
        });
        self.attempt(|s| s.per_host = 64);
        self.attempt(|s| s.settings.max_in_flight = 64);
        let storm_ms = self.best.storm_ms / 2;
        self.attempt(|s| s.storm_ms = storm_ms.max(1));
    }

    fn plainer_events(&mut self) {
        for index in 0..self.best.events.len() {
            let mut on = |change: fn(&mut PlannedEvent)| {
                self.attempt(|schedule| change(&mut schedule.events[index]))
            };
            on(|event| event.repeated = false);
            // Without its key, it would be a second event.
            on(|event| {
                if !event.repeated {
                    event.key = None;
                }
            });
            on(|event| event.payload = "0".into());
            on(|event| event.at_ms /= 2);
            while on(|event| drop(event.script.pop())) {}
            on(|event| event.script = vec![Behavior::answer(200)]);
            on(|event| {
                for behavior in &mut event.script {
                    if let Behavior::Answer { after_ms, .. } = behavior {
                        *after_ms = 0;
                    }
                }
            });
        }
    }

    /// The first pass of its point at which a fault does it, too.
    fn first_pass(&mut self, index: usize) {
        let When::Pass { point, nth } = self.best.faults[index].on else {
            return;
        };
        for nth in 1..nth {
            if self.attempt(|s| s.faults[index].on = When::Pass { point, nth }) {
                return;
            }
        }
    }

    fn plainer_faults(&mut self) {
        for index in 0..self.best.faults.len() {
            while self.attempt(|s| earlier(&mut s.faults[index].on)) {}
            self.first_pass(index);
            while self.attempt(|s| shorter(&mut s.faults[index].fault)) {}
        }
    }
}

/// Counts of passes, down to so many quarters.
fn sooner(schedule: &mut SimSchedule, quarters: u32) {
    for fault in &mut schedule.faults {
        if let When::Pass { nth, .. } = &mut fault.on {
            *nth = (*nth * quarters / 4).max(1);
        }
    }
}

fn earlier(on: &mut When) {
    match on {
        When::At { ms, .. } => *ms /= 2,
        When::Pass { nth, .. } => *nth = (*nth / 2).max(1),
    }
}

fn shorter(fault: &mut Fault) {
    match fault {
        Fault::Kill { down_ms } | Fault::Stop { down_ms } => *down_ms /= 2,
        Fault::StoreSlow { by_ms } => *by_ms /= 2,
        Fault::ClockStep { by_ms, for_ms } => {
            *by_ms /= 2;
            *for_ms /= 2;
        }
        Fault::ClockDrift { per_mille, for_ms } => {
            *per_mille /= 2;
            *for_ms /= 2;
        }
        Fault::Pause { for_ms }
        | Fault::Short { for_ms, .. }
        | Fault::PresenceCut { for_ms }
        | Fault::StoreCut { for_ms }
        | Fault::StoreDown { for_ms }
        | Fault::Refuse { for_ms, .. } => *for_ms /= 2,
        Fault::Panic | Fault::StoreError | Fault::ResponseLost => {}
    }
}
