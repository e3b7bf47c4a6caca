//! Every recorded attempt was made: a receiver got its request, or something explains why none did.
//!
//! The outcome of an attempt is the dispatcher's own report. Without this check, an attempt that
//! was never made could be recorded as failed. A fault explains an attempt without a request only
//! if it loses requests on the link to the receiver of the event, and only at the time of the
//! attempt. An abandoned attempt needs a fault that can end or outlive a lease. A worker releases
//! an orphaned claim soon after the database answers again, so a lost reply alone is no
//! explanation.

use std::collections::{BTreeMap, BTreeSet};

use url::{Host, Url};

use super::backoff::WIRE_SLACK_US;
use super::declaration::{Checker, Need, Property, When};
use super::verdict::{Examination, Verdict};
use crate::history::facts::{EventFacts, Facts, FaultFacts};
use crate::history::op::{AttemptSeen, State};
use crate::history::transition::Step;

/// The declaration of this checker.
pub const CHECKER: Checker = Checker {
    name: "attempts_explained",
    invariant: "every recorded attempt was received, or a fault or its outcome explains why not",
    property: Property::Safety,
    when: When::ALWAYS,
    needs: &[Need::State, Need::Attempts],
    check,
};

/// Outcome of an attempt whose target has a name that did not resolve.
const DNS: &str = "dns";
/// Outcome of an attempt whose target has an address that the dispatcher refuses.
const TARGET_REFUSED: &str = "target_refused";
/// Outcome of a successful attempt.
const DELIVERED: &str = "delivered";
/// Outcome of an attempt whose lease ended before a settle.
const ABANDONED: &str = "abandoned";
/// Outcome of an attempt whose deadline passed.
const TIMEOUT: &str = "timeout";

/// Maximum time from the heal of a fault to the release of the orphaned claims that it caused, in
/// microseconds: one second, and slack for a loaded machine and for late lines of the audit.
const RELEASED_WITHIN_US: u64 = 1_500_000;

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    let receivers = receivers(facts);
    let mut without_request = 0_u64;
    for (ordinal, event) in facts.accepted() {
        // A request without a number could be that of any attempt.
        let is_numbered = event.receipts.iter().all(|r| r.begin.op.attempt.is_some());
        let Some(state) = event.state.filter(|_| is_numbered) else {
            continue;
        };
        let received = received(facts, event, state.op);
        for row in &state.op.attempts {
            examination.saw_one();
            // `state_agrees` judges a delivery without a request.
            if received.contains(&row.number) || row.outcome == DELIVERED {
                continue;
            }
            without_request += 1;
            let window = Window::of(facts, event, row.number);
            let expiry = Expiry::of(facts, event, row.number);
            let receiver = receiver(event, &receivers);
            let mut faults = facts.faults_of(event).iter();
            let by_fault = faults.any(|fault| match row.outcome.as_str() {
                ABANDONED => explains_abandoned(fault, expiry.as_ref(), &window),
                _ => explains_failed(fault, row, receiver, &window),
            });
            if !by_fault && !is_never_sent(event, row, &receivers) {
                let what = format!(
                    "event {ordinal}: attempt {} is recorded as {}, no receiver got its request, and \
                     no fault explains it",
                    row.number, row.outcome
                );
                examination.broken(what, window.seqs.into_iter().chain([state.seq]));
            }
        }
    }
    let note = format!("{without_request} attempts without a request, each explained");
    examination.verdict("no attempt was recorded", note)
}

/// The numbers of the attempts of an event that a receiver got, at the event's target or elsewhere.
fn received(facts: &Facts<'_>, event: &EventFacts<'_>, state: &State) -> BTreeSet<u32> {
    let elsewhere = facts.strays.iter();
    let elsewhere = elsewhere.filter(|stray| stray.begin.op.id.as_deref() == Some(&state.id));
    let receipts = event.receipts.iter().chain(elsewhere);
    receipts.filter_map(|r| r.begin.op.attempt).collect()
}

/// The receiver behind each target without its ordinal, from the requests of all events.
fn receivers<'h>(facts: &Facts<'h>) -> BTreeMap<&'h str, u32> {
    let receipts = facts.events.values().flat_map(|event| &event.receipts);
    let known = receipts.filter_map(|receipt| {
        let begin = receipt.begin.op;
        Some((base(&begin.target), begin.receiver()?))
    });
    known.collect()
}

/// The receiver of an event, or `None` if no request ever arrived at its target.
fn receiver(event: &EventFacts<'_>, receivers: &BTreeMap<&str, u32>) -> Option<u32> {
    let mut receipts = event.receipts.iter();
    let seen = receipts.find_map(|receipt| receipt.begin.op.receiver());
    seen.or_else(|| {
        let target = &event.invokes.first()?.op.target;
        receivers.get(base(target)).copied()
    })
}

/// Returns true if the target of the event allows an outcome that the dispatcher decides before it
/// connects. An address needs no name resolution. A target that gets requests is not refused.
fn is_never_sent(
    event: &EventFacts<'_>,
    row: &AttemptSeen,
    receivers: &BTreeMap<&str, u32>,
) -> bool {
    let Some(invoke) = event.invokes.first() else {
        return false;
    };
    let target = &invoke.op.target;
    match row.outcome.as_str() {
        DNS => Url::parse(target).is_ok_and(|url| matches!(url.host(), Some(Host::Domain(_)))),
        TARGET_REFUSED => !receivers.contains_key(base(target)),
        _ => false,
    }
}

fn base(target: &str) -> &str {
    target.rsplit_once('/').map_or(target, |(base, _)| base)
}

/// The time in which an attempt without a request was made, as far as the history bounds it.
struct Window {
    from_us: u64,
    to_us: u64,
    /// The lines that bound it.
    seqs: Vec<u64>,
}

impl Window {
    /// From the last request that came before the attempt, or else the post, to the request after
    /// it, the commit of its end, or else the final read. A line of the audit may be late and is
    /// never early, so the commit bounds only the end.
    fn of(facts: &Facts<'_>, event: &EventFacts<'_>, number: u32) -> Self {
        let begins = || {
            let begins = event.receipts.iter().map(|receipt| receipt.begin);
            begins.filter_map(|begin| Some((begin.op.attempt?, begin.t, begin.seq)))
        };
        let in_order = |n: u32| n < number && !may_arrive_late(event, n);
        let before = begins().filter(|(n, ..)| in_order(*n)).max_by_key(|at| at.1);
        let post = event.invokes.first().map(|at| (at.t, at.seq));
        let from = before.map(|(_, t, seq)| (t, seq)).or(post);
        let after = begins().filter(|(n, ..)| *n > number).map(|(_, t, seq)| (t, seq));
        let read = event.state.map(|at| (at.t, at.seq));
        let to = after.chain(committed_end(facts, event, number)).chain(read).min();
        Self {
            from_us: from.map_or(0, |(t, _)| t),
            to_us: to.map_or(u64::MAX, |(t, _)| t),
            seqs: [from, to].iter().flatten().map(|(_, seq)| *seq).collect(),
        }
    }
}

/// Returns true if the request of an attempt may arrive after the request of a later attempt. A
/// paused worker sends it after its lease has ended, and a slow link delivers it after its
/// deadline.
fn may_arrive_late(event: &EventFacts<'_>, number: u32) -> bool {
    let rows = event.state.iter().flat_map(|at| &at.op.attempts);
    let mut of_attempt = rows.filter(|row| row.number == number);
    of_attempt.any(|row| [ABANDONED, TIMEOUT].contains(&&*row.outcome))
}

/// Time and line of the settle or reclaim of an attempt, if the audit has it. A release is not an
/// end: the next claim has the same number.
fn committed_end(facts: &Facts<'_>, event: &EventFacts<'_>, number: u32) -> Option<(u64, u64)> {
    let row = facts.rows.get(event.id()?)?;
    let mut ends = row.steps.iter().filter(|(step, at)| {
        matches!(step, Step::Settle | Step::Reclaim) && at.op.attempt == number
    });
    ends.next().map(|(_, at)| (at.t, at.seq))
}

/// The end of a lease that had expired, if the audit has it.
struct Expiry<'h> {
    holder: Option<&'h str>,
    expired_us: u64,
    /// The worker may have exited before, also after a graceful stop.
    may_have_ended: bool,
}

impl<'h> Expiry<'h> {
    fn of(facts: &Facts<'h>, event: &EventFacts<'h>, number: u32) -> Option<Self> {
        let row = facts.rows.get(event.id()?)?;
        let mut reclaims = row.steps.iter().filter(|(step, _)| *step == Step::Reclaim);
        let (_, at) = reclaims.find(|(_, at)| at.op.attempt == number)?;
        let age_us = u64::try_from(at.op.now_us - at.op.lease_until_us?).ok()?;
        let (holder, expired_us) = (at.op.holder.as_deref(), at.t.saturating_sub(age_us));
        let mut ends = facts.faults.iter().filter(|fault| fault.may_end_worker());
        let may_have_ended = ends.any(|fault| {
            fault.start.t <= expired_us && holder.is_none_or(|holder| fault.may_concern(holder))
        });
        Some(Self { holder, expired_us, may_have_ended })
    }
}

/// A lease of a running worker expires only if the worker did not reach the database when the lease
/// ended, or if the clock of the database moved. Otherwise the worker would have settled or
/// released the event. The deadline of an attempt is before the end of its lease, so a fault after
/// the end explains nothing. A worker that has exited releases nothing: the statement of its lost
/// claim may reach the database later.
fn explains_abandoned(
    fault: &FaultFacts<'_>,
    expiry: Option<&Expiry<'_>>,
    window: &Window,
) -> bool {
    let is_possible = expiry.is_none_or(|expiry| {
        let from_us = expiry.expired_us.saturating_sub(RELEASED_WITHIN_US);
        let from_us = if expiry.may_have_ended { 0 } else { from_us };
        let is_of_worker = expiry.holder.is_none_or(|holder| fault.may_concern(holder))
            && fault.overlaps(from_us, expiry.expired_us + WIRE_SLACK_US, 0);
        // The time of the expiry is then not known.
        fault.moves_a_clock() || is_of_worker
    });
    is_possible && fault.may_abandon() && is_at_the_time(fault, window)
}

fn explains_failed(
    fault: &FaultFacts<'_>,
    row: &AttemptSeen,
    receiver: Option<u32>,
    window: &Window,
) -> bool {
    // A worker that is paused before it sends finds its deadline passed when it continues.
    let is_possible =
        (row.outcome == TIMEOUT && fault.may_pause()) || fault.may_lose_requests_to(receiver);
    is_possible && is_at_the_time(fault, window)
}

fn is_at_the_time(fault: &FaultFacts<'_>, window: &Window) -> bool {
    fault.overlaps(window.from_us, window.to_us, WIRE_SLACK_US)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::story::ops::{links, process, w0};
    use crate::checker::story::{KILL, SECOND, Story};
    use crate::checker::{Overall, Tier, judge, verdict_line};
    use crate::fault::Target;
    use crate::history::op::Op;
    use crate::nemesis::{KillWorker, PauseWorker, Reset, TerminateWorker};
    use crate::sim::kinds::{CLOCK_STEP, STORE_ERROR, WORKER_PANIC};

    /// Removes the request of an attempt and records the attempt with this outcome.
    fn unreceived(story: Story, ordinal: u64, attempt: u32, outcome: &'static str) -> Story {
        let is_request = move |op: &Op| {
            matches!(op, Op::RecvBegin(begin)
                if (begin.ordinal, begin.attempt) == (Some(ordinal), Some(attempt)))
        };
        story.without(is_request).edit(move |_, op| {
            if let Op::State(state) = op
                && state.ordinal == ordinal
            {
                let rows = state.attempts.iter_mut();
                for row in rows.filter(|row| row.number == attempt) {
                    row.outcome = outcome.into();
                }
            }
        })
    }

    fn is_valid(story: Story) -> bool {
        check(&Facts::of(&story.history())).is_valid()
    }

    // Attempt 1 of event 0 comes after its post at 10 us, and attempt 2 is received at 200 ms.
    fn failed(outcome: &'static str) -> Story {
        unreceived(Story::of_four_events(), 0, 1, outcome)
    }

    #[test]
    fn attempt_without_request_and_fault_is_a_violation() {
        assert_eq!(
            verdict_line(&CHECKER, &Story::of_four_events().history()),
            "valid: 10 examined, 0 attempts without a request, each explained"
        );
        assert_eq!(
            verdict_line(&CHECKER, &failed("connect").history()),
            "INVALID: 1 of 10 broken; event 0: attempt 1 is recorded as connect, no receiver got its \
             request, and no fault explains it (lines [3, 18, 37])"
        );
        for outcome in ["timeout", "reset", "body", "rejected", "abandoned"] {
            assert!(!is_valid(failed(outcome)), "{outcome}");
        }
    }

    // Attempt 1 of event 0 is made between its post at 10 us and attempt 2 at 200 ms.
    #[test]
    fn fault_explains_only_requests_of_its_receiver_and_its_time() {
        let beside = |link, under_way| {
            is_valid(failed("connect").with_fault(Reset::KIND, links(link), under_way))
        };
        assert!(beside("workers->r0", 1_000..2_000));
        assert!(!beside("workers->r1", 1_000..2_000));
        assert!(!beside("w0->pg", 1_000..2_000));
        assert!(beside("workers->r0", 200_000..SECOND));
        assert!(!beside("workers->r0", 200_001..SECOND));
    }

    #[test]
    fn kill_explains_only_an_abandoned_attempt() {
        let killed = |outcome| unreceived(Story::of_four_events(), 1, 1, outcome);
        assert!(is_valid(killed("abandoned")));
        assert!(!is_valid(killed("connect")));
        let without_fault = killed("abandoned").without_faults();
        assert!(!is_valid(without_fault));
        let later = killed("abandoned").edit(|t, op| {
            if op.source() == "fault" {
                *t += 3 * SECOND;
            }
        });
        assert!(!is_valid(later), "attempt 2 came at {}", KILL + 2 * SECOND);
    }

    // Attempt 2 is claimed at 150 ms for 4 s and reclaimed at 5 s. No receiver saw it.
    #[test]
    fn lost_reply_does_not_explain_an_orphaned_claim() {
        let orphaned_after = |stops: Option<&str>, kind, target, under_way| {
            let second = |op: &Op| matches!(op, Op::RecvBegin(begin) if begin.attempt == Some(2));
            let story = Story::of_one_event().without_faults().without(second).edit(|t, op| {
                let is_later = (700_000..SECOND).contains(t);
                *t += if is_later { 4_300_000 } else { 0 };
                if let Op::Reclaim(at) = op {
                    at.now_us += 4_300_000;
                    at.lease_until_us = Some(at.now_us - 850_000);
                }
            });
            let story = stops.into_iter().fold(story, |story, worker| {
                story.with_fault(TerminateWorker::KIND, process(worker), 140_000..150_000)
            });
            is_valid(story.with_fault(kind, target, under_way))
        };
        let orphaned = |kind, target, under_way| orphaned_after(None, kind, target, under_way);
        let expired = 4_150_000;
        let lost = |from, to| orphaned(STORE_ERROR, process("h0"), from..to);
        assert!(!lost(140_000, 150_000), "it released the claim within a second");
        assert!(lost(140_000, expired - RELEASED_WITHIN_US));
        assert!(!lost(140_000, expired - RELEASED_WITHIN_US - 1));
        assert!(lost(expired + WIRE_SLACK_US, 6 * SECOND), "the settle was lost");
        assert!(!lost(expired + WIRE_SLACK_US + 1, 6 * SECOND), "it was settled before");
        assert!(!orphaned(STORE_ERROR, process("h1"), 140_000..5 * SECOND));
        let stopped =
            |worker| orphaned_after(Some(worker), STORE_ERROR, process("h0"), 140_000..150_000);
        assert_eq!(["h0", "h1"].map(stopped), [true, false]);
        for (kind, target) in [
            (KillWorker::KIND, process("h0")),
            (WORKER_PANIC, process("h0")),
            (CLOCK_STEP, Target::Postgres),
        ] {
            assert!(orphaned(kind, target, 140_000..150_000), "{}", kind.name);
        }
        assert!(!orphaned(PauseWorker::KIND, process("h0"), 140_000..150_000));
        assert!(!orphaned(KillWorker::KIND, process("h1"), 140_000..150_000));
    }

    #[test]
    fn pause_explains_only_a_timeout() {
        let paused =
            |outcome| is_valid(failed(outcome).with_fault(PauseWorker::KIND, w0(), 1_000..2_000));
        assert!(paused("timeout"));
        assert!(paused("abandoned"));
        assert!(!paused("connect"));
    }

    // Found by seed 0xc9879678c6fd3c41 of the simulation.
    #[test]
    fn late_request_of_an_earlier_attempt_does_not_bound_the_time() {
        // The request of attempt 1 arrives at 8 s. Attempt 2 fails during the fault, at 6 s.
        let explained_after = |outcome: &'static str| {
            let late = Story::of_four_events().with_request_at(1, 1, KILL + 3 * SECOND);
            let story = unreceived(late, 1, 2, "connect").edit(move |_, op| {
                if let Op::State(state) = op
                    && state.ordinal == 1
                {
                    state.attempts[0].outcome = outcome.into();
                }
            });
            let under_way = KILL + SECOND..KILL + 2 * SECOND;
            is_valid(story.with_fault(Reset::KIND, links("workers->r1"), under_way))
        };
        assert!(explained_after("abandoned"));
        assert!(explained_after("timeout"));
        assert!(!explained_after("rejected"));
    }

    #[test]
    fn commit_of_the_settle_ends_the_time_of_an_attempt() {
        // Attempt 1 is settled at 30 ms, and attempt 2 is received at 151 ms.
        let explained_from = |from| {
            let first = |op: &Op| matches!(op, Op::RecvBegin(begin) if begin.attempt == Some(1));
            let story = Story::of_one_event().without(first);
            let story = story.with_fault(Reset::KIND, links("workers->r2"), from..from);
            check(&Facts::of(&story.history())).is_valid()
        };
        assert_eq!([30_000, 30_001].map(explained_from), [true, false]);
    }

    #[test]
    fn request_at_another_place_is_found_by_its_id() {
        let strayed = Story::of_four_events().edit(|_, op| {
            if let Op::RecvBegin(begin) = op
                && (begin.ordinal, begin.attempt) == (Some(0), Some(1))
            {
                begin.ordinal = None;
            }
        });
        assert!(is_valid(strayed));
    }

    #[test]
    fn declared_cause_must_fit_the_target() {
        let posted_to = |target: &'static str, outcome| {
            is_valid(failed(outcome).edit(move |_, op| {
                if let Op::IngestInvoke(invoke) = op
                    && invoke.ordinal == 0
                {
                    invoke.target = target.into();
                }
            }))
        };
        assert!(posted_to("http://unknown.test/webhook/0", "dns"));
        assert!(!posted_to("http://127.0.0.1:8080/webhook/0", "dns"));
        assert!(!posted_to("http://[::1]:8080/webhook/0", "dns"));
        assert!(posted_to("http://10.0.0.1/webhook/0", "target_refused"));
        assert!(!is_valid(failed("target_refused")), "others get requests there");
    }

    #[test]
    fn forged_history_of_unmade_attempts_is_unsafe() {
        let overall = |story: Story| Overall::merge(&judge(&story.history(), Tier::Real));
        assert_eq!(overall(Story::of_four_events()), Overall::Pass);
        // Two failures of event 3 still show the gaps at default settings.
        let forged = unreceived(failed("connect"), 2, 1, "connect");
        let findings = judge(&forged.history(), Tier::Real);
        assert_eq!(Overall::merge(&findings), Overall::Unsafe);
        let invalid = findings.iter().filter(|f| f.verdict.is_invalid());
        let invalid: Vec<&str> = invalid.map(|f| &*f.checker).collect();
        assert_eq!(invalid, ["attempts_explained"]);
    }
}
