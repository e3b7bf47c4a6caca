//! Strikes and heals faults at their times and at failpoint hits.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::context::SimContext;
use super::failpoint::Failpoint;
use super::failpoint::FailpointHit;
use super::fault::{Fault, When};
use super::process::RequestedEnd;
use super::state::{SimState, skip};
use crate::fault::{Family, Link, Planned as _, Target};
use crate::history::op::{FaultEffect, FaultEnd, FaultStart, Op};

/// The effect of the faults at one failpoint on the call that hit it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CallEffect {
    /// The process of the caller is killed: the call never returns.
    pub(super) dies: bool,
    /// The process of the caller is paused before the call continues.
    pub(super) pauses: bool,
    /// The call returns an error.
    pub(super) fails: bool,
    /// The attempt panics.
    pub(super) panics: bool,
    /// The response is lost between receiver and worker.
    pub(super) loses_response: bool,
    /// Additional delay of the call or of its reply.
    pub(super) delay: Duration,
}

impl SimContext {
    /// Strikes the faults that wait for this hit of a failpoint.
    pub(super) fn hit(
        self: &Arc<Self>,
        process: usize,
        life: u32,
        failpoint: Failpoint,
    ) -> CallEffect {
        let mut effect = CallEffect::default();
        let mut striking = Vec::new();
        {
            let mut state = self.state();
            let caller = &state.processes[process];
            if caller.life != life || caller.is_killed {
                effect.dies = true;
                return effect;
            }
            if self.heal.is_cancelled() {
                return effect;
            }
            for (index, pending) in state.faults.iter_mut().enumerate() {
                let When::Pass { point, nth } = pending.planned.on else {
                    continue;
                };
                if pending.has_struck || point != failpoint {
                    continue;
                }
                pending.hits += 1;
                if pending.hits == nth {
                    striking.push(index);
                }
            }
            state.trace_hit(failpoint, !striking.is_empty());
        }
        for index in striking {
            self.strike(index, process, &failpoint.to_string(), &mut effect);
        }
        effect
    }

    /// Waits for the time of a fault and strikes it, unless the storm ends first.
    pub(super) async fn strike_at(self: Arc<Self>, index: usize, ms: u64, process: usize) {
        tokio::select! {
            biased;
            () = self.heal.cancelled() => {}
            () = sleep(Duration::from_millis(ms)) => {
                self.strike(index, process, "its time", &mut CallEffect::default());
            }
        }
    }

    fn strike(
        self: &Arc<Self>,
        index: usize,
        process: usize,
        trigger: &str,
        effect: &mut CallEffect,
    ) {
        let t = self.now_us();
        let number = index as u64 + 1;
        let mut state = self.state();
        state.faults[index].has_struck = true;
        let fault = state.faults[index].planned.fault;
        if let Some(reason) = state.cannot_strike(&fault, process) {
            state.push(t, skip(&fault, reason));
            return;
        }
        let open = state.open_requests_of(process);
        let target = state.target(&fault, process);
        let start = FaultStart {
            why: trigger.into(),
            open: open.clone(),
            ..FaultStart::new(number, &fault.kind(), target)
        };
        state.push(t, Op::FaultStart(start));
        state.apply(t, number, process, &fault);
        effect.add(&fault);
        let hit = match fault {
            Fault::Kill { .. } => open,
            _ => Vec::new(),
        };
        let effect = FaultEffect { fault: number, effective_us: t, hit, observed: None };
        state.push(t, Op::FaultEffect(effect));
        drop(state);
        if let Some(lasts_ms) = fault.lasts_ms() {
            tokio::spawn(Arc::clone(self).heal_later(number, fault, process, lasts_ms));
        }
    }

    async fn heal_later(self: Arc<Self>, number: u64, fault: Fault, process: usize, lasts_ms: u64) {
        tokio::select! {
            biased;
            () = self.heal.cancelled() => {}
            () = sleep(Duration::from_millis(lasts_ms)) => {}
        }
        let t = self.now_us();
        let mut state = self.state();
        state.heal(number, &fault, process);
        state.push(t, Op::FaultEnd(FaultEnd { fault: number }));
    }
}

impl CallEffect {
    fn add(&mut self, fault: &Fault) {
        match *fault {
            Fault::Kill { .. } => self.dies = true,
            Fault::Pause { .. } => self.pauses = true,
            Fault::Panic => self.panics = true,
            Fault::StoreError => self.fails = true,
            Fault::StoreSlow { by_ms } => self.delay += Duration::from_millis(by_ms),
            Fault::ResponseLost => self.loses_response = true,
            _ => {}
        }
    }
}

impl SimState {
    fn trace_hit(&mut self, failpoint: Failpoint, struck: bool) {
        if let Some(trace) = &mut self.trace {
            let same = trace.iter().filter(|hit| hit.failpoint == failpoint);
            let before = u32::try_from(same.count()).unwrap_or(u32::MAX);
            trace.push(FailpointHit { failpoint, nth: before + 1, struck });
        }
    }

    /// Returns the reason for a skip if the fault needs a worker and the worker is down.
    fn cannot_strike(&self, fault: &Fault, process: usize) -> Option<&'static str> {
        let process = &self.processes[process];
        let is_at_worker = matches!(fault.kind().family, Family::Worker | Family::Presence);
        (is_at_worker && (!process.is_up || process.is_killed)).then_some("its worker was down")
    }

    /// Returns the names of the requests that the current life of a process has open.
    fn open_requests_of(&self, process: usize) -> Vec<String> {
        let life = self.processes[process].life;
        self.open_requests
            .iter()
            .filter(|request| (request.process, request.life) == (process, life))
            .map(|request| request.name.clone())
            .collect()
    }

    fn target(&self, fault: &Fault, process: usize) -> Target {
        match *fault {
            Fault::StoreDown { .. }
            | Fault::StoreRefuse
            | Fault::ClockStep { .. }
            | Fault::ClockDrift { .. } => Target::Postgres,
            // The link, as in the real tier: its harm loses requests only on links to receivers.
            Fault::Hang { receivers, .. } => Target::Receivers((0..receivers).collect()),
            Fault::Refuse { receiver, .. } => Target::Links(vec![Link::ToReceiver(receiver)]),
            _ => self.processes[process].target(),
        }
    }

    fn apply(&mut self, t: u64, number: u64, index: usize, fault: &Fault) {
        let process = &mut self.processes[index];
        match *fault {
            Fault::Kill { down_ms } => {
                process.is_killed = true;
                process.requested_ends.push(RequestedEnd { fault: number, down_ms });
                process.wake();
            }
            Fault::Stop { down_ms } => {
                process.requested_ends.push(RequestedEnd { fault: number, down_ms });
                process.stop.cancel();
            }
            Fault::Pause { .. } => process.pauses += 1,
            Fault::PresenceCut { .. } => {
                process.presence_cuts += 1;
                self.lose_presence(index);
            }
            Fault::StoreCut { .. } => {
                process.store_cuts += 1;
                process.connections_cut.notify_waiters();
                self.lose_presence(index);
            }
            Fault::Short { receiver: None, .. } => process.socket_exhaustions += 1,
            Fault::Short { receiver: Some(receiver), .. } => {
                process.exhausted_receivers.push(receiver)
            }
            Fault::StoreDown { .. } => self.crash_database(),
            Fault::StoreRefuse => self.refuses_data = true,
            Fault::ClockStep { by_ms, .. } => self.clock.step(number, by_ms),
            Fault::ClockDrift { per_mille, .. } => self.clock.drift(number, per_mille, t),
            Fault::Refuse { receiver, .. } => self.refusals[receiver as usize] += 1,
            Fault::Hang { receivers, .. } => self.hung_receivers = receivers,
            Fault::Panic | Fault::StoreError | Fault::StoreSlow { .. } | Fault::ResponseLost => {}
        }
    }

    fn crash_database(&mut self) {
        self.database_outages += 1;
        self.database_life += 1;
        self.model.crash();
        for process in &mut self.processes {
            process.is_present = false;
            process.connections_cut.notify_waiters();
        }
    }

    fn heal(&mut self, number: u64, fault: &Fault, index: usize) {
        let process = &mut self.processes[index];
        match fault {
            Fault::Pause { .. } => {
                // A restart has already ended the pauses of the previous life.
                process.pauses = process.pauses.saturating_sub(1);
                process.wake();
                process.resumed.notify_waiters();
                self.take_presence(index);
            }
            Fault::PresenceCut { .. } => {
                process.presence_cuts -= 1;
                self.take_presence(index);
            }
            Fault::StoreCut { .. } => {
                process.store_cuts -= 1;
                self.take_presence(index);
            }
            Fault::Short { receiver: None, .. } => process.socket_exhaustions -= 1,
            Fault::Short { receiver, .. } => {
                let exhausted = &mut process.exhausted_receivers;
                let entry = exhausted.iter().position(|r| Some(*r) == *receiver);
                exhausted.swap_remove(entry.expect("the strike has added the entry"));
            }
            Fault::StoreDown { .. } => {
                self.database_outages -= 1;
                for process in 0..self.processes.len() {
                    self.take_presence(process);
                }
            }
            Fault::ClockStep { .. } | Fault::ClockDrift { .. } => self.clock.heal(number),
            Fault::Refuse { receiver, .. } => self.refusals[*receiver as usize] -= 1,
            Fault::Hang { .. } => self.hung_receivers = 0,
            _ => {}
        }
    }
}
