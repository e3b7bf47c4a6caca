//! Shrinking: reduces a failing schedule to a few lines that break the same invariant.
//!
//! The shrinker removes faults, then events, and then simplifies numbers. It keeps a step only if
//! the same invariant is still broken, and repeats all steps until none is kept. The result depends
//! only on the schedule, so the same failure always shrinks to the same lines.

use std::sync::Arc;

use mock_receiver::Behavior;

use super::fault::{Fault, When};
use super::mutant::Mutant;
use super::run::Simulator;
use super::schedule::SimSchedule;
use crate::fault::Target;
use crate::history::op::Op;
use crate::plan::PlannedEvent;

/// Maximum number of runs of one shrinking.
pub const PROBES_MAX: u32 = 2_000;

/// The result of shrinking.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The reduced schedule.
    pub schedule: SimSchedule,
    /// Number of executed runs.
    pub probes: u32,
}

/// Shrinks a schedule that breaks the invariant of `checker`.
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
    shrinker.strike_at_times();
    loop {
        let before = shrinker.best.clone();
        shrinker.remove_parts(|s| s.faults.len(), |s, from, to| drop(s.faults.drain(from..to)));
        // With fewer events, a failpoint has fewer hits.
        for quarters in [4, 3, 2, 1] {
            shrinker.remove_parts(
                |s| s.events.len(),
                |s, from, to| {
                    s.events.drain(from..to);
                    scale_hits(s, quarters);
                },
            );
        }
        shrinker.simplify_settings();
        shrinker.simplify_events();
        shrinker.simplify_faults();
        if shrinker.best == before || shrinker.probes >= PROBES_MAX {
            break;
        }
    }
    Shrunk { schedule: shrinker.best, probes: shrinker.probes }
}

struct Shrinker<'a> {
    simulator: Simulator,
    checker: &'a str,
    mutant: Option<&'static dyn Mutant>,
    best: SimSchedule,
    probes: u32,
}

impl Shrinker<'_> {
    /// Keeps a change if the same invariant is still broken. Returns true if the change is kept.
    fn keep_if_broken(&mut self, change: impl FnOnce(&mut SimSchedule)) -> bool {
        let mut candidate = self.best.clone();
        change(&mut candidate);
        if candidate == self.best || self.probes >= PROBES_MAX {
            return false;
        }
        self.probes += 1;
        let schedule = Arc::new(candidate);
        let result = self.simulator.run(&schedule, self.mutant);
        let is_broken = result
            .findings()
            .into_iter()
            .any(|finding| finding.checker == self.checker && finding.verdict.is_invalid());
        if is_broken {
            self.best = Arc::unwrap_or_clone(schedule);
        }
        is_broken
    }

    /// Removes parts of a list: first all of it, then halves, down to single items.
    fn remove_parts(
        &mut self,
        len: impl Fn(&SimSchedule) -> usize,
        drain: impl Fn(&mut SimSchedule, usize, usize),
    ) {
        let mut part = len(&self.best);
        while part > 0 {
            let mut from = 0;
            while from < len(&self.best) {
                let to = (from + part).min(len(&self.best));
                if !self.keep_if_broken(|schedule| drain(schedule, from, to)) {
                    from = to;
                }
            }
            part /= 2;
        }
    }

    /// Lets the faults strike at the time of their failpoint hit, if the failure stays. A time does
    /// not change if events are removed.
    fn strike_at_times(&mut self) {
        let result = self.simulator.run(&Arc::new(self.best.clone()), self.mutant);
        for (t, op) in result.ops {
            let Op::FaultStart(start) = op else { continue };
            let worker = match start.target {
                Target::Process { worker, .. } => worker,
                _ => 0,
            };
            let at = When::At { ms: t / 1_000, worker };
            let index = usize::try_from(start.fault).unwrap_or(1) - 1;
            self.keep_if_broken(|s| s.faults[index].on = at);
        }
    }

    fn simplify_settings(&mut self) {
        self.keep_if_broken(|s| s.partial_claims_percent = 0);
        self.keep_if_broken(|s| s.store_ms_max = 0);
        self.keep_if_broken(|s| s.wire_ms_max = 0);
        self.keep_if_broken(|s| s.workers = 1);
        self.keep_if_broken(|s| {
            s.receivers = 1;
            for event in &mut s.events {
                event.receiver = 0;
            }
        });
        self.keep_if_broken(|s| s.per_host = 64);
        self.keep_if_broken(|s| s.settings.max_in_flight = 64);
        let storm_ms = self.best.storm_ms / 2;
        self.keep_if_broken(|s| s.storm_ms = storm_ms.max(1));
    }

    fn simplify_events(&mut self) {
        for index in 0..self.best.events.len() {
            let mut change_event = |change: fn(&mut PlannedEvent)| {
                self.keep_if_broken(|schedule| change(&mut schedule.events[index]))
            };
            change_event(|event| event.repeated = false);
            // Without the key, the repeated post would store a second event.
            change_event(|event| {
                if !event.repeated {
                    event.key = None;
                }
            });
            change_event(|event| event.payload = "0".into());
            change_event(|event| event.at_ms /= 2);
            while change_event(|event| drop(event.script.pop())) {}
            change_event(|event| event.script = vec![Behavior::answer(200)]);
            change_event(|event| {
                for behavior in &mut event.script {
                    if let Behavior::Answer { after_ms, .. } = behavior {
                        *after_ms = 0;
                    }
                }
            });
        }
    }

    /// Moves a fault to the first hit of its failpoint that gives the same failure.
    fn strike_at_first_hit(&mut self, index: usize) {
        let When::Pass { point, nth } = self.best.faults[index].on else {
            return;
        };
        for nth in 1..nth {
            if self.keep_if_broken(|s| s.faults[index].on = When::Pass { point, nth }) {
                return;
            }
        }
    }

    fn simplify_faults(&mut self) {
        for index in 0..self.best.faults.len() {
            while self.keep_if_broken(|s| halve_trigger(&mut s.faults[index].on)) {}
            self.strike_at_first_hit(index);
            while self.keep_if_broken(|s| halve_duration(&mut s.faults[index].fault)) {}
        }
    }
}

/// Reduces the hit numbers of all triggers to the given number of quarters.
fn scale_hits(schedule: &mut SimSchedule, quarters: u32) {
    for fault in &mut schedule.faults {
        if let When::Pass { nth, .. } = &mut fault.on {
            *nth = (*nth * quarters / 4).max(1);
        }
    }
}

fn halve_trigger(on: &mut When) {
    match on {
        When::At { ms, .. } => *ms /= 2,
        When::Pass { nth, .. } => *nth = (*nth / 2).max(1),
    }
}

fn halve_duration(fault: &mut Fault) {
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
        | Fault::Refuse { for_ms, .. }
        | Fault::Hang { for_ms, .. } => *for_ms /= 2,
        Fault::Panic | Fault::StoreError | Fault::StoreRefuse | Fault::ResponseLost => {}
    }
}
