//! How faults strike and heal.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::{Core, World, skip};
use crate::fault::{Family, Target};
use crate::history::op::{FaultEffect, FaultEnd, FaultStart, Op};
use crate::sim::fault::{Fault, PlannedFault, Point, When};
use crate::sim::run::Passed;
use crate::sim::schedule::SimSchedule;

/// A fault of the plan, waiting for its moment.
pub(in crate::sim) struct Armed {
    pub(in crate::sim) planned: PlannedFault,
    pub(in crate::sim) struck: bool,
    passes: u32,
}

/// What a pass means for the call that passes.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::sim) struct Effect {
    /// The caller's process is dead: it never gets an answer.
    pub(in crate::sim) dies: bool,
    /// The caller's process stands still before it goes on.
    pub(in crate::sim) pauses: bool,
    /// The call ends with an error.
    pub(in crate::sim) fails: bool,
    /// The attempt panics.
    pub(in crate::sim) panics: bool,
    /// The answer is lost on its way.
    pub(in crate::sim) is_lost: bool,
    /// So much later.
    pub(in crate::sim) late: Duration,
}

pub(super) fn armed(plan: &SimSchedule) -> Vec<Armed> {
    let arm = |planned: &PlannedFault| Armed {
        planned: planned.clone(),
        struck: false,
        passes: 0,
    };
    plan.faults.iter().map(arm).collect()
}

impl World {
    /// A call passes a point: faults that waited for it strike.
    pub(in crate::sim) fn pass(self: &Arc<World>, host: usize, life: u32, at: Point) -> Effect {
        let mut effect = Effect::default();
        let mut struck = Vec::new();
        {
            let mut core = self.core();
            let now = &core.hosts[host];
            if now.life != life || now.killed {
                effect.dies = true;
                return effect;
            }
            if self.heal.is_cancelled() {
                return effect;
            }
            core.note_pass(at);
            for (index, armed) in core.faults.iter_mut().enumerate() {
                let When::Pass { point, nth } = armed.planned.on else {
                    continue;
                };
                if armed.struck || point != at {
                    continue;
                }
                armed.passes += 1;
                if armed.passes == nth {
                    struck.push(index);
                }
            }
        }
        if let Some(passed) = self
            .core()
            .trace
            .as_mut()
            .and_then(|trace| trace.last_mut())
        {
            passed.struck = !struck.is_empty();
        }
        for index in struck {
            self.strike(index, host, &format!("{at}"), &mut effect);
        }
        effect
    }

    /// Waits for the time of a fault, and strikes.
    pub(in crate::sim) async fn strike_at(self: Arc<World>, index: usize, ms: u64, host: usize) {
        tokio::select! {
            biased;
            () = self.heal.cancelled() => {}
            () = sleep(Duration::from_millis(ms)) => {
                self.strike(index, host, "its time", &mut Effect::default());
            }
        }
    }

    fn strike(self: &Arc<World>, index: usize, host: usize, why: &str, effect: &mut Effect) {
        let t = self.now_us();
        let number = index as u64 + 1;
        let mut core = self.core();
        core.faults[index].struck = true;
        let fault = core.faults[index].planned.fault;
        if let Some(why) = core.cannot_strike(&fault, host) {
            core.push(t, skip(&fault, why));
            return;
        }
        let life = core.hosts[host].life;
        let open: Vec<String> = core
            .open
            .iter()
            .filter(|(_, of, at)| (*of, *at) == (host, life))
            .map(|(req, _, _)| req.clone())
            .collect();
        let target = core.target(&fault, host);
        let start = FaultStart {
            why: why.into(),
            open: open.clone(),
            ..FaultStart::new(number, &fault.kind(), target)
        };
        core.push(t, Op::FaultStart(start));
        core.apply(t, number, host, &fault);
        core.tell_effect(effect, &fault);
        let hit = match fault {
            Fault::Kill { .. } => open,
            _ => Vec::new(),
        };
        let effect = FaultEffect {
            fault: number,
            effective_us: t,
            hit,
            observed: None,
        };
        core.push(t, Op::FaultEffect(effect));
        drop(core);
        if let Some(lasts_ms) = fault.lasts_ms() {
            tokio::spawn(Arc::clone(self).heal_later(number, fault, host, lasts_ms));
        }
    }

    async fn heal_later(self: Arc<World>, number: u64, fault: Fault, host: usize, lasts_ms: u64) {
        tokio::select! {
            biased;
            () = self.heal.cancelled() => {}
            () = sleep(Duration::from_millis(lasts_ms)) => {}
        }
        let t = self.now_us();
        let mut core = self.core();
        core.undo(number, &fault, host);
        core.push(t, Op::FaultEnd(FaultEnd { fault: number }));
    }
}

impl Core {
    fn note_pass(&mut self, point: Point) {
        if let Some(trace) = &mut self.trace {
            let before = trace.iter().filter(|passed| passed.point == point).count();
            trace.push(Passed {
                point,
                nth: u32::try_from(before).unwrap_or(u32::MAX) + 1,
                struck: false,
            });
        }
    }

    fn cannot_strike(&self, fault: &Fault, host: usize) -> Option<&'static str> {
        let host = &self.hosts[host];
        let at_a_worker = matches!(fault.kind().family, Family::Worker | Family::Presence);
        (at_a_worker && (!host.up || host.killed)).then_some("its worker was down")
    }

    fn target(&self, fault: &Fault, host: usize) -> Target {
        match fault {
            Fault::StoreDown { .. } | Fault::ClockStep { .. } | Fault::ClockDrift { .. } => {
                Target::Postgres
            }
            Fault::Refuse { receiver, .. } => Target::Receiver(*receiver),
            _ => self.hosts[host].target(),
        }
    }

    fn apply(&mut self, t: u64, number: u64, at: usize, fault: &Fault) {
        let host = &mut self.hosts[at];
        match *fault {
            Fault::Kill { down_ms } => {
                host.killed = true;
                host.ends.push((number, down_ms));
                host.wake();
            }
            Fault::Stop { down_ms } => {
                host.ends.push((number, down_ms));
                host.stop.cancel();
            }
            Fault::Pause { .. } => host.paused += 1,
            Fault::PresenceCut { .. } => {
                host.presence_cut += 1;
                self.lose_presence(at);
            }
            Fault::StoreCut { .. } => {
                host.store_cut += 1;
                host.cut.notify_waiters();
                self.lose_presence(at);
            }
            Fault::Short { receiver: None, .. } => host.short += 1,
            Fault::Short {
                receiver: Some(receiver),
                ..
            } => host.ports_spent.push(receiver),
            Fault::StoreDown { .. } => {
                self.database_down += 1;
                self.database_life += 1;
                self.model.crash();
                for host in &mut self.hosts {
                    host.present = false;
                    host.cut.notify_waiters();
                }
            }
            Fault::ClockStep { by_ms, .. } => self.clock.step(number, by_ms),
            Fault::ClockDrift { per_mille, .. } => self.clock.drift(number, per_mille, t),
            Fault::Refuse { receiver, .. } => self.refusing[receiver as usize] += 1,
            Fault::Panic | Fault::StoreError | Fault::StoreSlow { .. } | Fault::ResponseLost => {}
        }
    }

    fn tell_effect(&self, effect: &mut Effect, fault: &Fault) {
        match *fault {
            Fault::Kill { .. } => effect.dies = true,
            Fault::Pause { .. } => effect.pauses = true,
            Fault::Panic => effect.panics = true,
            Fault::StoreError => effect.fails = true,
            Fault::StoreSlow { by_ms } => effect.late += Duration::from_millis(by_ms),
            Fault::ResponseLost => effect.is_lost = true,
            _ => {}
        }
    }

    fn undo(&mut self, number: u64, fault: &Fault, at: usize) {
        let host = &mut self.hosts[at];
        match fault {
            Fault::Pause { .. } => {
                // A restart in between has ended the pause already.
                host.paused = host.paused.saturating_sub(1);
                host.wake();
                host.resumed.notify_waiters();
                self.take_presence(at);
            }
            Fault::PresenceCut { .. } => {
                host.presence_cut -= 1;
                self.take_presence(at);
            }
            Fault::StoreCut { .. } => {
                host.store_cut -= 1;
                self.take_presence(at);
            }
            Fault::Short { receiver: None, .. } => host.short -= 1,
            Fault::Short { receiver, .. } => {
                let spent = host.ports_spent.iter().position(|r| Some(*r) == *receiver);
                host.ports_spent
                    .swap_remove(spent.expect("it was pushed when it struck"));
            }
            Fault::StoreDown { .. } => {
                self.database_down -= 1;
                for host in 0..self.hosts.len() {
                    self.take_presence(host);
                }
            }
            Fault::ClockStep { .. } | Fault::ClockDrift { .. } => self.clock.heal(number),
            Fault::Refuse { receiver, .. } => self.refusing[*receiver as usize] -= 1,
            _ => {}
        }
    }
}
