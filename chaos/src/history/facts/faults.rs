//! One fault of a history, from its request to its heal, and the harm that it may do.
//!
//! Every answer comes from the family, the harm and the target in `fault.start`, and from the ops
//! of the fault. No answer depends on a name.

use std::ops::Range;

use super::receipt::{At, ReceiptFacts};
use crate::fault::{Aftermath, Family, Harm, Kills, Target};
use crate::history::op::{FaultEffect, FaultStart};

/// A fault, from its request to its heal.
#[derive(Clone, Copy, Debug)]
pub struct FaultFacts<'h> {
    /// Its request.
    pub start: At<'h, FaultStart>,
    /// Its effect, when one was observed.
    pub effect: Option<At<'h, FaultEffect>>,
    /// When it was healed, in microseconds.
    pub end_us: Option<u64>,
    /// True when a worker did not end within its grace and was killed.
    pub forced: bool,
}

impl FaultFacts<'_> {
    /// The name of its kind, for texts only: excuses come from its harm and its target.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.start.op.f
    }

    /// The family of its kind.
    #[must_use]
    pub const fn family(&self) -> Family {
        self.start.op.family
    }

    /// The parts of the system to which it is done.
    #[must_use]
    pub const fn target(&self) -> &Target {
        &self.start.op.target
    }

    const fn harm(&self) -> &Harm {
        &self.start.op.harm
    }

    /// Returns true for a kill of one worker that happens when the fault takes effect.
    #[must_use]
    pub fn is_kill(&self) -> bool {
        self.harm().kills == Kills::WorkerOnce
    }

    /// Returns true for a kill that ended at least one open request.
    #[must_use]
    pub fn is_counted_kill(&self) -> bool {
        self.is_kill() && self.effect.is_some_and(|at| !at.op.hit.is_empty())
    }

    /// Returns true if it may end a worker, or an attempt of it, without cleanup. A worker that did
    /// not stop within its grace was killed.
    #[must_use]
    pub fn may_kill(&self) -> bool {
        self.forced || self.harm().kills != Kills::Nothing
    }

    /// Returns true if a worker may still run when its leases have expired.
    #[must_use]
    pub fn may_expire_leases(&self) -> bool {
        self.harm().expires_leases
    }

    /// Returns true if a settle, or the reply to it, may be lost.
    #[must_use]
    pub fn may_lose_settles(&self) -> bool {
        self.harm().loses_settles
    }

    /// Returns true if a worker that runs may lose its presence.
    #[must_use]
    pub fn may_lose_presence(&self) -> bool {
        self.harm().loses_presence
    }

    /// Returns true if the presence of a worker may end before its leases expire.
    #[must_use]
    pub fn may_end_presence(&self) -> bool {
        let harm = self.harm();
        let kills_workers = matches!(harm.kills, Kills::WorkerOnce | Kills::WorkersUntilHealed);
        kills_workers || harm.stops_workers || harm.loses_settles || harm.loses_presence
    }

    /// Returns true if a worker may exit, also after a graceful stop.
    #[must_use]
    pub fn may_end_worker(&self) -> bool {
        self.may_kill() || self.harm().stops_workers
    }

    /// Returns true if a worker that runs may report that it is not ready.
    #[must_use]
    pub fn may_end_readiness(&self) -> bool {
        let harm = self.harm();
        self.may_abandon() || harm.stops_workers || harm.denies_database || harm.exhausts_machine
    }

    /// Returns true if the server may keep sessions that no worker uses.
    #[must_use]
    pub fn may_leave_sessions(&self) -> bool {
        let harm = self.harm();
        let cuts = harm.loses_settles && matches!(self.target(), Target::Links(_));
        self.may_kill() || harm.stops_workers || harm.denies_database || cuts
    }

    /// The time in which this worker could not use its database, in microseconds. The effect is
    /// recorded when the fault has lasted for its duration, before the heal.
    #[must_use]
    pub fn denial(&self, worker: &str) -> Option<Range<u64>> {
        let number = worker.strip_prefix('w')?.parse().ok()?;
        let effect = self.effect.filter(|_| self.is_effective())?;
        let denies = self.harm().denies_database && self.target().is_database_of(number);
        denies.then_some(effect.op.effective_us..effect.t)
    }

    /// Returns true if it stops the execution of a worker for its duration.
    #[must_use]
    pub fn may_pause(&self) -> bool {
        self.harm().expires_leases && self.family() == Family::Worker
    }

    /// Returns true if a receiver takes requests and does not respond.
    #[must_use]
    pub fn is_hang(&self) -> bool {
        self.harm().withholds_responses
    }

    /// Returns true if it delays large events, which must not delay others.
    #[must_use]
    pub fn delays_large_events(&self) -> bool {
        matches!(self.harm().aftermath, Aftermath::LargeEvents { .. })
    }

    /// Returns true if the events of its receivers could take every permit: the receivers do not
    /// respond, or one more receiver has a deep backlog.
    #[must_use]
    pub fn may_take_permits(&self) -> bool {
        self.is_hang() || *self.target() == Target::OtherReceiver
    }

    /// Returns true if it is done to the database and every worker can use the database meanwhile:
    /// it leaves enough connections, or it harms nothing.
    #[must_use]
    pub fn leaves_database_usable(&self) -> bool {
        let harmless = !self.may_end_readiness() && !self.logs_errors();
        let leaves = *self.target() == Target::Connections || harmless;
        self.family() == Family::Postgres && leaves
    }

    /// Returns true if clients without a key take connections of the APIs.
    #[must_use]
    pub fn is_crowd(&self) -> bool {
        *self.target() == Target::Strangers
    }

    /// Returns true if a worker has no socket or port left for its attempts.
    #[must_use]
    pub fn may_exhaust_machine(&self) -> bool {
        self.harm().exhausts_machine
    }

    /// Returns true if this request, or its response, may be lost or late on its link.
    #[must_use]
    pub fn may_lose_or_delay(&self, receipt: &ReceiptFacts<'_>) -> bool {
        let receiver = receipt.begin.op.receiver();
        self.harm().loses_requests
            && receiver.is_some_and(|receiver| self.target().is_link_to_receiver(receiver))
    }

    /// Returns true if requests to this receiver may be lost. An unknown receiver may be any.
    #[must_use]
    pub fn may_lose_requests_to(&self, receiver: Option<u32>) -> bool {
        let is_on_link = |receiver| self.target().is_link_to_receiver(receiver);
        self.harm().loses_requests && receiver.is_none_or(is_on_link)
    }

    /// Returns true if the dispatcher must log at level ERROR because of it.
    #[must_use]
    pub fn logs_errors(&self) -> bool {
        self.harm().logs_errors
    }

    /// Returns true if an attempt may not be settled under its lease.
    #[must_use]
    pub fn may_abandon(&self) -> bool {
        self.forced || self.harm().may_abandon()
    }

    /// The number of attempts of one event that it may leave abandoned.
    #[must_use]
    pub fn abandons_max(&self) -> usize {
        let declared = self.harm().abandons_max as usize;
        declared.max(usize::from(self.forced))
    }

    /// Returns true if an effect was observed.
    #[must_use]
    pub fn is_effective(&self) -> bool {
        let seen = |op: &FaultEffect| op.observed.is_some() || !op.hit.is_empty();
        self.effect.is_some_and(|at| seen(at.op))
    }

    /// Returns true if it moves the clock of the database.
    #[must_use]
    pub fn moves_a_clock(&self) -> bool {
        self.family() == Family::Clock
    }

    /// Returns true if it may have hit the process with this worker id.
    #[must_use]
    pub fn may_concern(&self, worker_id: &str) -> bool {
        self.target().may_be(worker_id)
    }

    /// The time by which it had taken effect, in microseconds.
    #[must_use]
    pub fn effective_us(&self) -> u64 {
        self.effect.map_or(self.start.t, |at| at.op.effective_us)
    }

    /// Returns true if the fault, or the time of `after_us` after its heal, overlaps this interval.
    #[must_use]
    pub fn overlaps(&self, from_us: u64, to_us: u64, after_us: u64) -> bool {
        let end_us = self.end_us.map_or(u64::MAX, |end| end.saturating_add(after_us));
        self.start.t <= to_us && end_us >= from_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::story::ops::{fault, links, process, w0};
    use crate::fault::Kind;
    use crate::history::History;
    use crate::history::facts::Facts;
    use crate::history::op::{Op, RecvBegin, SIG_VALID, WorkerExit};
    use crate::nemesis::{
        CrashLoop, HangReceiver, KillWorker, Latency, PauseWorker, RefuseReceiver, Reset,
        StopPostgres, TerminateWorker,
    };
    use crate::sim::kinds::{CLOCK_STEP, PRESENCE_CUT, STORE_ERROR, WORKER_PANIC};

    const FROM: u64 = 100;
    const TO: u64 = 200;

    /// Returns the value of `ask` for a fault of this kind and target, followed by these ops.
    fn asked<T>(kind: Kind, target: Target, more: &[Op], ask: impl Fn(&FaultFacts<'_>) -> T) -> T {
        let ops = fault(kind, target, FROM..TO).into_iter();
        let more = more.iter().map(|op| (TO, op.clone()));
        let history = History::from_ops(ops.chain(more));
        ask(&Facts::of(&history).faults[0])
    }

    fn effect(hit: &[&str], observed: Option<&str>) -> Op {
        Op::FaultEffect(FaultEffect {
            fault: FROM,
            effective_us: 150,
            hit: hit.iter().map(|req| (*req).to_owned()).collect(),
            observed: observed.map(str::to_owned),
        })
    }

    /// Returns whether the fault may kill, let leases expire, lose settles and lose presence, and
    /// the maximum number of attempts that it abandons.
    fn harm(fault: &FaultFacts<'_>) -> ([bool; 4], usize) {
        let may = [
            fault.may_kill(),
            fault.may_expire_leases(),
            fault.may_lose_settles(),
            fault.may_lose_presence(),
        ];
        assert_eq!(fault.may_abandon(), may.contains(&true), "{}", fault.name());
        (may, fault.abandons_max())
    }

    #[test]
    fn each_kind_of_fault_does_the_harm_that_it_can_do() {
        let none = [false; 4];
        let [kills, expires, unsettles, hides] = [0, 1, 2, 3].map(|at| {
            let mut may = none;
            may[at] = true;
            may
        });
        for (kind, target, expected) in [
            (KillWorker::KIND, w0(), (kills, 1)),
            (CrashLoop::KIND, w0(), (kills, 5)),
            (WORKER_PANIC, w0(), (kills, 1)),
            (PauseWorker::KIND, w0(), (expires, 1)),
            (CLOCK_STEP, Target::Postgres, (expires, 2)),
            (STORE_ERROR, w0(), (unsettles, 1)),
            (StopPostgres::KIND, Target::Postgres, (unsettles, 3)),
            (Reset::KIND, links("client->w0+w0->pg"), (unsettles, 3)),
            (Reset::KIND, links("workers->r0"), (none, 0)),
            (PRESENCE_CUT, w0(), (hides, 1)),
            (TerminateWorker::KIND, w0(), (none, 0)),
            (HangReceiver::KIND, links("w0->pg"), (none, 0)),
        ] {
            let case = format!("{} of {target}", kind.name);
            assert_eq!(asked(kind, target, &[], harm), expected, "{case}");
        }
    }

    #[test]
    fn forced_stop_of_a_worker_is_a_kill() {
        let exit = |forced| {
            Op::WorkerExit(WorkerExit {
                worker: "w0".into(),
                fault: FROM,
                asked_us: FROM,
                ended_us: TO,
                code: None,
                signal: None,
                forced,
            })
        };
        let killed = |ops: &[Op]| {
            asked(TerminateWorker::KIND, w0(), ops, |fault| {
                (fault.may_kill(), fault.abandons_max())
            })
        };
        assert_eq!(killed(&[exit(false)]), (false, 0));
        assert_eq!(killed(&[exit(true)]), (true, 1));
        assert_eq!(killed(&[exit(true), exit(false)]), (true, 1));
        assert_eq!(killed(&[exit(true), exit(true)]), (true, 1));
    }

    #[test]
    fn kill_counts_with_a_hit_and_fault_with_any_observation() {
        let seen = |kind: Kind, ops: &[Op]| {
            asked(kind, w0(), ops, |fault| (fault.is_counted_kill(), fault.is_effective()))
        };
        assert_eq!(seen(KillWorker::KIND, &[]), (false, false));
        assert_eq!(seen(KillWorker::KIND, &[effect(&[], None)]), (false, false));
        assert_eq!(seen(KillWorker::KIND, &[effect(&[], Some("seen"))]), (false, true));
        assert_eq!(seen(KillWorker::KIND, &[effect(&["r0-1"], None)]), (true, true));
        assert_eq!(seen(PauseWorker::KIND, &[effect(&["r0-1"], None)]), (false, true));
    }

    #[test]
    fn fault_without_a_recorded_effect_is_effective_from_its_start() {
        let effective =
            |ops: &[Op]| asked(KillWorker::KIND, w0(), ops, |fault| fault.effective_us());
        assert_eq!(effective(&[]), FROM);
        assert_eq!(effective(&[effect(&[], None)]), 150);
    }

    #[test]
    fn link_fault_affects_only_requests_over_its_link() {
        let begin = |req: &str| {
            let op = Op::RecvBegin(RecvBegin {
                req: req.into(),
                ordinal: Some(0),
                id: None,
                attempt: None,
                target: String::new(),
                sha256: String::new(),
                sig: SIG_VALID.into(),
                scripted: None,
            });
            History::from_ops([(1, op)])
        };
        let affects = |kind: Kind, target: Target, req: &str| {
            let history = begin(req);
            let facts = Facts::of(&history);
            asked(kind, target, &[], |fault| fault.may_lose_or_delay(&facts.events[&0].receipts[0]))
        };
        assert!(affects(Latency::KIND, links("workers->r1"), "r1-7"));
        assert!(affects(Latency::KIND, links("workers->r0+workers->r1"), "r1-7"));
        assert!(affects(RefuseReceiver::KIND, links("workers->r1"), "r1-7"));
        assert!(affects(Latency::KIND, links("workers->r1"), "r1"), "a name without a number");
        assert!(!affects(Latency::KIND, links("workers->r1"), "r2-7"));
        assert!(!affects(PauseWorker::KIND, links("workers->r1"), "r1-7"));
    }

    #[test]
    fn fault_concerns_its_named_holder_or_any() {
        let concerns =
            |target| asked(KillWorker::KIND, target, &[], |fault| fault.may_concern("h0"));
        let targets = [w0(), process("h0"), process("h1")];
        assert_eq!(targets.map(concerns), [true, true, false]);
    }

    #[test]
    fn fault_overlaps_until_the_end_of_its_aftermath() {
        let overlaps = |(from, to, after)| {
            asked(PauseWorker::KIND, w0(), &[], |fault| fault.overlaps(from, to, after))
        };
        assert_eq!([(0, FROM - 1, 0), (0, FROM, 0)].map(overlaps), [false, true]);
        assert_eq!([(TO, 900, 0), (TO + 1, 900, 0)].map(overlaps), [true, false]);
        assert_eq!([(TO + 5, 900, 5), (TO + 6, 900, 5)].map(overlaps), [true, false]);
        // A fault without a recorded end has no end.
        let [start, _] = fault(PauseWorker::KIND, w0(), FROM..TO);
        let history = History::from_ops([start]);
        let unhealed = Facts::of(&history).faults[0];
        assert!(unhealed.overlaps(u64::MAX, u64::MAX, 0));
        assert!(!unhealed.overlaps(0, FROM - 1, 0));
    }
}
