//! A fault from its request to its heal, and what kind of harm it may do.

use super::{At, ReceiptFacts};
use crate::history::op::{FaultEffect, FaultStart};

/// The name of the fault that kills a worker.
pub const WORKER_KILL: &str = "worker.kill";
/// The name of the fault that makes a worker stand still.
pub const WORKER_PAUSE: &str = "worker.pause";

/// The name of the fault that stops workers in turn.
pub const WORKER_TERMINATE: &str = "worker.terminate";
/// The name of the fault that kills a worker again and again.
pub const WORKER_CRASH_LOOP: &str = "worker.crash_loop";
/// The name of the fault that runs another number of workers.
pub const WORKER_SCALE: &str = "worker.scale";

/// The name of the fault that makes one attempt panic inside its worker.
pub const WORKER_PANIC: &str = "worker.panic";

/// The name of the fault that leaves a worker's machine without sockets.
pub const WORKER_SHORT: &str = "worker.short";
/// The name of the fault that makes a link late.
pub const NET_LATENCY: &str = "net.latency";
/// The name of the fault that makes a link a black hole.
pub const NET_BLACK_HOLE: &str = "net.black_hole";
/// The name of the fault that swallows one direction of a link.
pub const NET_ONE_WAY: &str = "net.one_way";
/// The name of the fault that resets connections of a link at a byte.
pub const NET_RESET: &str = "net.reset";
/// The name of the fault that cuts a connection between a commit and its reply.
pub const NET_CUT_COMMIT: &str = "net.cut_commit";
/// The name of the fault that cuts links one by one and heals them in another order.
pub const NET_SWIZZLE: &str = "net.swizzle";
/// The name of the fault that makes a receiver hang.
pub const RECEIVER_HANG: &str = "receiver.hang";
/// The name of the fault that makes a receiver refuse connections.
pub const RECEIVER_REFUSE: &str = "receiver.refuse";
/// The name of the fault that makes a receiver come and go.
pub const RECEIVER_FLAP: &str = "receiver.flap";
/// What the names of these begin with.
pub const OF_RECEIVERS: &str = "receiver.";
/// How long a fault of a receiver lasts at most, in milliseconds.
pub const RECEIVER_FAULT_MS_MAX: u64 = 5_000;

/// Kills of one crash loop at most.
pub const CRASHES_MAX: u32 = 5;
/// Leases of one event that a fault of the database, or of the way to it, ends at most: it lasts for
/// little longer than one lease, and an event that was taken up may be hit once more.
const OUTAGE_ABANDONS_MAX: usize = 3;

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
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.start.op.f
    }

    /// True for a kill of a worker.
    #[must_use]
    pub fn is_kill(&self) -> bool {
        self.name() == WORKER_KILL
    }

    /// True for a kill that ended at least one open request.
    #[must_use]
    pub fn is_counted_kill(&self) -> bool {
        self.is_kill() && self.effect.is_some_and(|at| !at.op.hit.is_empty())
    }

    /// True when it may end a worker without a word.
    #[must_use]
    pub fn may_kill(&self) -> bool {
        self.forced || matches!(self.name(), WORKER_KILL | WORKER_CRASH_LOOP | WORKER_PANIC)
    }

    /// True when it may make a worker outlive its leases.
    #[must_use]
    pub fn may_expire_leases(&self) -> bool {
        self.name() == WORKER_PAUSE || self.moves_a_clock()
    }

    /// True when it may keep a worker from telling the database, or from learning whether it did.
    #[must_use]
    pub fn may_lose_settles(&self) -> bool {
        let family = |family| self.name().starts_with(family);
        family("store.") || family("postgres.") || (family("net.") && self.is_on("->pg"))
    }

    /// True when it may cost a living worker its presence alone.
    #[must_use]
    pub fn may_lose_presence(&self) -> bool {
        self.name().starts_with("presence.")
    }

    /// True when it may keep this request, or its answer, on its way between a worker and its receiver.
    #[must_use]
    pub fn may_keep(&self, receipt: &ReceiptFacts<'_>) -> bool {
        let req = receipt.begin.op.req.as_str();
        let receiver = req.split_once('-').map_or(req, |(receiver, _)| receiver);
        let on_the_way = self.name().starts_with("net.") || self.name().starts_with(OF_RECEIVERS);
        on_the_way && self.is_on(&format!("->{receiver}"))
    }

    /// True when it may keep an attempt from being settled under its lease.
    #[must_use]
    pub fn may_abandon(&self) -> bool {
        self.may_kill()
            || self.may_expire_leases()
            || self.may_lose_settles()
            || self.may_lose_presence()
    }

    /// How many attempts of one event it may leave abandoned, at most.
    #[must_use]
    pub fn abandons_max(&self) -> usize {
        match self.name() {
            WORKER_CRASH_LOOP => CRASHES_MAX as usize,
            // It jumps, and jumps back.
            _ if self.moves_a_clock() => 2,
            name if name.starts_with("store.") => 1,
            _ if self.may_lose_settles() => OUTAGE_ABANDONS_MAX,
            _ => usize::from(self.may_abandon()),
        }
    }

    /// True when something was seen of it.
    #[must_use]
    pub fn is_effective(&self) -> bool {
        let seen = |op: &FaultEffect| op.observed.is_some() || !op.hit.is_empty();
        self.effect.is_some_and(|at| seen(at.op))
    }

    /// True when it was done to a link whose name ends so; several are joined by a plus.
    fn is_on(&self, link: &str) -> bool {
        let mut links = self.start.op.target.split('+');
        links.any(|name| name.ends_with(link))
    }

    /// True when it moves a clock.
    #[must_use]
    pub fn moves_a_clock(&self) -> bool {
        self.name().starts_with("clock.")
    }

    /// True when it may have hit this holder: by its name, where the fault tells holders.
    #[must_use]
    pub fn may_concern(&self, holder: &str) -> bool {
        let named = self.start.op.target.split_once('/');
        named.is_none_or(|(_, hit)| hit == holder)
    }

    /// When it had taken effect at the latest, in microseconds.
    #[must_use]
    pub fn effective_us(&self) -> u64 {
        self.effect.map_or(self.start.t, |at| at.op.effective_us)
    }

    /// True when it was under way, or its aftermath of `after_us`, at some time between the two.
    #[must_use]
    pub fn overlaps(&self, from_us: u64, to_us: u64, after_us: u64) -> bool {
        let end_us = self
            .end_us
            .map_or(u64::MAX, |end| end.saturating_add(after_us));
        self.start.t <= to_us && end_us >= from_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::sample::fault;
    use crate::history::History;
    use crate::history::facts::Facts;
    use crate::history::op::{Op, RecvBegin, SIG_VALID, WorkerExit};

    const FROM: u64 = 100;
    const TO: u64 = 200;

    /// What `ask` says of a fault of this kind that is done to this target, with these ops after it.
    fn told<T>(f: &str, target: &str, more: &[Op], ask: impl Fn(&FaultFacts<'_>) -> T) -> T {
        let ops = fault(f, target, (FROM, TO)).into_iter();
        let more = more.iter().map(|op| (TO, op.clone()));
        let history = History::unchained(ops.chain(more));
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

    /// Whether it may kill, let leases expire, lose settles, lose presence; and how many it abandons.
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
        for (f, target, expected) in [
            (WORKER_KILL, "w0", (kills, 1)),
            (WORKER_CRASH_LOOP, "w0", (kills, 5)),
            (WORKER_PANIC, "w0", (kills, 1)),
            (WORKER_PAUSE, "w0", (expires, 1)),
            ("clock.step", "postgres", (expires, 2)),
            ("store.error", "w0", (unsettles, 1)),
            ("postgres.stop", "postgres", (unsettles, 3)),
            (NET_RESET, "client->w0+w0->pg", (unsettles, 3)),
            (NET_RESET, "workers->r0", (none, 0)),
            ("presence.cut", "w0", (hides, 1)),
            (WORKER_TERMINATE, "w0", (none, 0)),
            (RECEIVER_HANG, "w0->pg", (none, 0)),
        ] {
            assert_eq!(told(f, target, &[], harm), expected, "{f} of {target}");
        }
    }

    #[test]
    fn a_worker_that_was_stopped_by_force_was_killed() {
        let exit = |forced| {
            Op::WorkerExit(WorkerExit {
                worker: "w0".into(),
                fault: FROM,
                asked_us: FROM,
                code: None,
                signal: None,
                forced,
            })
        };
        let killed = |ops: &[Op]| {
            told(WORKER_TERMINATE, "w0", ops, |fault| {
                (fault.may_kill(), fault.abandons_max())
            })
        };
        assert_eq!(killed(&[exit(false)]), (false, 0));
        assert_eq!(killed(&[exit(true)]), (true, 1));
        assert_eq!(killed(&[exit(true), exit(false)]), (true, 1));
        assert_eq!(killed(&[exit(true), exit(true)]), (true, 1));
    }

    #[test]
    fn a_kill_counts_if_it_ended_a_request_and_a_fault_is_effective_if_anything_was_seen() {
        let seen = |f: &str, ops: &[Op]| {
            told(f, "w0", ops, |fault| {
                (fault.is_counted_kill(), fault.is_effective())
            })
        };
        assert_eq!(seen(WORKER_KILL, &[]), (false, false));
        assert_eq!(seen(WORKER_KILL, &[effect(&[], None)]), (false, false));
        assert_eq!(
            seen(WORKER_KILL, &[effect(&[], Some("seen"))]),
            (false, true)
        );
        assert_eq!(seen(WORKER_KILL, &[effect(&["r0-1"], None)]), (true, true));
        assert_eq!(
            seen(WORKER_PAUSE, &[effect(&["r0-1"], None)]),
            (false, true)
        );
    }

    #[test]
    fn a_fault_without_a_known_effect_had_it_at_its_request() {
        let effective = |ops: &[Op]| told(WORKER_KILL, "w0", ops, |fault| fault.effective_us());
        assert_eq!(effective(&[]), FROM);
        assert_eq!(effective(&[effect(&[], None)]), 150);
    }

    #[test]
    fn a_fault_keeps_what_goes_over_its_link() {
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
            History::unchained([(1, op)])
        };
        let keeps = |f: &str, target: &str, req: &str| {
            let history = begin(req);
            let facts = Facts::of(&history);
            told(f, target, &[], |fault| {
                fault.may_keep(&facts.events[&0].receipts[0])
            })
        };
        assert!(keeps(NET_LATENCY, "workers->r1", "r1-7"));
        assert!(keeps(NET_LATENCY, "workers->r0+workers->r1", "r1-7"));
        assert!(keeps(RECEIVER_REFUSE, "workers->r1", "r1-7"));
        assert!(
            keeps(NET_LATENCY, "workers->r1", "r1"),
            "a name without a number"
        );
        assert!(!keeps(NET_LATENCY, "workers->r1", "r2-7"));
        assert!(!keeps(WORKER_PAUSE, "workers->r1", "r1-7"));
    }

    #[test]
    fn a_fault_concerns_the_holder_that_it_names_or_any() {
        let concerns =
            |target: &str| told(WORKER_KILL, target, &[], |fault| fault.may_concern("h0"));
        assert_eq!(["w0", "w0/h0", "w0/h1"].map(concerns), [true, true, false]);
    }

    #[test]
    fn a_fault_overlaps_what_it_touches_with_its_aftermath() {
        let overlaps = |(from, to, after)| {
            told(WORKER_PAUSE, "w0", &[], |fault| {
                fault.overlaps(from, to, after)
            })
        };
        assert_eq!(
            [(0, FROM - 1, 0), (0, FROM, 0)].map(overlaps),
            [false, true]
        );
        assert_eq!(
            [(TO, 900, 0), (TO + 1, 900, 0)].map(overlaps),
            [true, false]
        );
        assert_eq!(
            [(TO + 5, 900, 5), (TO + 6, 900, 5)].map(overlaps),
            [true, false]
        );
        // One that nobody healed goes on.
        let [start, _] = fault(WORKER_PAUSE, "w0", (FROM, TO));
        let history = History::unchained([start]);
        let unhealed = Facts::of(&history).faults[0];
        assert!(unhealed.overlaps(u64::MAX, u64::MAX, 0));
        assert!(!unhealed.overlaps(0, FROM - 1, 0));
    }
}
