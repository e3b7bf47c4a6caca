//! A fault that leaves the database usable does not stop the service: posts are accepted, and most
//! of the accepted events are sent soon.
//!
//! Such a fault takes connections and leaves enough of them, or keeps dead index entries. A
//! dispatcher that stands still until the heal delivers everything later, and then no other checker
//! detects it. Only events whose wait ends before the end of the fault are judged. Events that
//! another fault may have delayed are left out. Half of the events may wait longer, because a
//! worker whose connections were ended has to connect again.

use super::backoff::RECOVERY_SLACK_US;
use super::declaration::{Checker, Property, When};
use super::verdict::{Examination, Verdict};
use crate::history::facts::{EventFacts, Facts, FaultFacts};
use crate::history::op::Section;

/// The declaration of this checker.
pub const CHECKER: Checker = Checker {
    name: "availability",
    invariant: "while a fault leaves the database usable, posts are accepted and most events are sent soon",
    property: Property::Liveness,
    when: When::real_if("a fault left the database usable", is_exercised),
    needs: &[],
    check,
};

/// Maximum time from the 202 of an event to its first request, in microseconds. It contains two
/// tries to connect, which a worker makes once per second.
const SENT_WITHIN_US: u64 = 2_500_000;
/// Minimum number of events that were posted during such a fault.
const EVENTS_MIN: usize = 5;
/// Minimum number of posted events of which one must be accepted. One of two workers may have no
/// connection, and clients post to both in turn.
const REFUSED_MIN: usize = 10;

/// The events that were posted during a fault, early enough for a wait that ends before it.
struct Judged {
    /// Line of `fault.start`.
    seq: u64,
    name: String,
    posted: usize,
    /// Number of them that were accepted before the end of the fault.
    accepted: usize,
    /// The waits of those that were accepted early enough.
    waits: Vec<Wait>,
}

struct Wait {
    ordinal: u64,
    is_late: bool,
    seq: u64,
}

fn is_exercised(facts: &Facts<'_>) -> bool {
    !judged(facts).is_empty()
}

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    let (mut sent, mut late) = (0, 0);
    for judged in judged(facts) {
        let Judged { seq, name, posted, accepted, waits } = judged;
        (0..posted).for_each(|_| examination.saw_one());
        if accepted == 0 && posted >= REFUSED_MIN {
            examination.broken(format!("none of {posted} posts was accepted beside {name}"), [seq]);
        }
        let over: Vec<&Wait> = waits.iter().filter(|wait| wait.is_late).collect();
        (sent, late) = (sent + waits.len() - over.len(), late + over.len());
        if over.len() * 2 > waits.len() {
            for wait in over {
                let what = format!(
                    "event {} was not sent within {} ms beside {name}",
                    wait.ordinal,
                    SENT_WITHIN_US / 1_000
                );
                examination.broken(what, [seq, wait.seq]);
            }
        }
    }
    let note = format!("{sent} events sent within {} ms, {late} later", SENT_WITHIN_US / 1_000);
    examination.verdict("too few events were posted during such a fault", note)
}

/// The faults that left the database usable and during which enough events were posted.
fn judged(facts: &Facts<'_>) -> Vec<Judged> {
    let usable = facts.faults.iter().filter(|fault| fault.leaves_database_usable());
    let judged = usable.filter_map(|fault| during(facts, fault));
    judged.filter(|judged| judged.posted >= EVENTS_MIN).collect()
}

fn during(facts: &Facts<'_>, fault: &FaultFacts<'_>) -> Option<Judged> {
    let effect = fault.effect.filter(|_| fault.is_effective())?;
    let window = fault.effective_us()..(effect.t + 1).saturating_sub(SENT_WITHIN_US);
    let of_main = facts.events.iter().filter(|(_, event)| event.section() == Section::Main);
    let posted: Vec<(u64, &EventFacts<'_>)> = of_main
        .filter(|(_, event)| !event.is_large())
        .filter(|(_, event)| {
            let first = event.invokes.first();
            first.is_some_and(|at| window.contains(&at.t) && !is_disturbed(facts, fault, at.t))
        })
        .map(|(ordinal, event)| (*ordinal, event))
        .collect();
    let waits = posted.iter().filter_map(|(ordinal, event)| {
        let accepted = event.acknowledged.first().filter(|at| window.contains(&at.t))?;
        let first = event.receipts.first().map(|receipt| receipt.begin.t);
        let is_late = first.is_none_or(|t| t > accepted.t + SENT_WITHIN_US);
        Some(Wait { ordinal: *ordinal, is_late, seq: accepted.seq })
    });
    let is_accepted = |event: &EventFacts<'_>| {
        let first = event.acknowledged.first();
        first.is_some_and(|at| at.t <= effect.t)
    };
    Some(Judged {
        seq: fault.start.seq,
        name: fault.name().to_owned(),
        posted: posted.len(),
        accepted: posted.iter().filter(|(_, event)| is_accepted(event)).count(),
        waits: waits.collect(),
    })
}

/// Returns true if another fault, or its aftermath, may delay an event that is posted at this time.
fn is_disturbed(facts: &Facts<'_>, fault: &FaultFacts<'_>, t: u64) -> bool {
    let mut others = facts.faults.iter().filter(|other| other.start.seq != fault.start.seq);
    others.any(|other| {
        other.may_end_readiness() && other.overlaps(t, t + SENT_WITHIN_US, RECOVERY_SLACK_US)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::story::ops::w0;
    use crate::checker::story::{SECOND, Story};
    use crate::checker::verdict_line;
    use crate::fault::{Kind, Target};
    use crate::history::op::{FaultEffect, NotAcknowledged, Op};
    use crate::nemesis::{
        FewConnections, HangReceiver, HoldHorizon, KillWorker, PoisonRow, TerminateSessions,
    };

    const FROM: u64 = 20 * SECOND;
    const TO: u64 = 25 * SECOND;
    /// The last time at which an event is judged.
    const LAST: u64 = TO - SENT_WITHIN_US;

    fn beside(kind: Kind, target: Target, story: Story) -> Story {
        let effect = FaultEffect {
            fault: FROM,
            effective_us: FROM,
            hit: vec![],
            observed: Some("as a test".into()),
        };
        // The heal takes a second.
        story.with(TO, Op::FaultEffect(effect)).with_fault(kind, target, FROM..TO + SECOND)
    }

    /// A run with few connections, in which these events have these waits.
    fn few(events: &[(u64, u64)]) -> Story {
        beside(FewConnections::KIND, Target::Connections, posted(events))
    }

    fn posted(events: &[(u64, u64)]) -> Story {
        let story = Story::of_four_events();
        let numbered = (300..).zip(events);
        numbered.fold(story, |story, (n, (t, wait))| story.with_event(n, 1, *t, *wait))
    }

    /// Five events of which this number waits too long.
    fn late(number: usize) -> [(u64, u64); 5] {
        [0, 1, 2, 3, 4].map(|n| (FROM + n, SENT_WITHIN_US + u64::from((n as usize) < number)))
    }

    fn judged_line(story: Story) -> String {
        verdict_line(&CHECKER, &story.history())
    }

    fn word(story: Story) -> &'static str {
        check(&Facts::of(&story.history())).word()
    }

    #[test]
    fn most_events_must_be_sent_within_the_bound() {
        let valid = "valid: 5 examined, 3 events sent within 2500 ms, 2 later";
        assert_eq!(judged_line(few(&late(2))), valid);
        let broken = judged_line(few(&late(3)));
        assert!(broken.starts_with("INVALID: 3 of 5 broken"), "{broken}");
        let what = "event 300 was not sent within 2500 ms beside postgres.few_connections";
        assert!(broken.contains(what), "{broken}");
    }

    #[test]
    fn event_that_is_never_sent_is_late() {
        let story = few(&late(0)).without(|op| matches!(op, Op::RecvBegin(_) | Op::RecvEnd(_)));
        assert!(judged_line(story).starts_with("INVALID: 5 of 5 broken"));
    }

    #[test]
    fn posts_that_are_all_refused_are_a_violation() {
        let refused = |posts: u64, but: u64| {
            let posts: Vec<(u64, u64)> = (0..posts).map(|n| (FROM + n, SECOND)).collect();
            few(&posts).edit(move |_, op| {
                if let Op::IngestOk(ok) = op
                    && ok.ordinal >= 300
                    && ok.ordinal != but
                {
                    let (op_number, ordinal) = (ok.op, ok.ordinal);
                    let (status, why) = (Some(503), "no connection".into());
                    *op = Op::IngestInfo(NotAcknowledged { op: op_number, ordinal, status, why });
                }
            })
        };
        let line = judged_line(refused(10, 0));
        let what = "none of 10 posts was accepted beside postgres.few_connections";
        assert!(line.starts_with("INVALID") && line.contains(what), "{line}");
        assert_eq!(word(refused(10, 302)), "valid");
        assert_eq!(word(refused(9, 0)), "valid");
    }

    #[test]
    fn only_waits_that_end_before_the_fault_are_judged() {
        let at = |t| [(FROM, SECOND); 4].into_iter().chain([(t, SECOND)]).collect::<Vec<_>>();
        let judged = |t| word(few(&at(t)));
        let times = [FROM - 1, FROM, LAST, LAST + 1];
        assert_eq!(times.map(judged), ["unknown", "valid", "valid", "unknown"]);
    }

    #[test]
    fn fault_that_harms_nothing_or_leaves_connections_is_judged() {
        let judged = |kind, target| word(beside(kind, target, posted(&late(5))));
        assert_eq!(judged(HoldHorizon::KIND, Target::Postgres), "INVALID");
        assert_eq!(judged(FewConnections::KIND, Target::Connections), "INVALID");
        assert_eq!(judged(TerminateSessions::KIND, Target::Postgres), "unknown");
        assert_eq!(judged(PoisonRow::KIND, Target::Postgres), "unknown");
        assert_eq!(judged(HangReceiver::KIND, Target::Receiver(0)), "unknown");
    }

    #[test]
    fn another_fault_and_its_aftermath_excuse_a_wait() {
        let beside_another =
            |kind, target, healed| word(few(&late(5)).with_fault(kind, target, 0..healed));
        let excused = FROM - RECOVERY_SLACK_US;
        assert_eq!(beside_another(KillWorker::KIND, w0(), excused - 1), "INVALID");
        assert_eq!(beside_another(KillWorker::KIND, w0(), excused + 4), "unknown");
        let receiver = Target::Receiver(0);
        assert_eq!(beside_another(HangReceiver::KIND, receiver, FROM), "INVALID");
    }

    #[test]
    fn fault_without_an_effect_is_not_judged() {
        let story = few(&late(5)).without(|op| matches!(op, Op::FaultEffect(_)));
        assert!(!is_exercised(&Facts::of(&story.history())));
        assert!(is_exercised(&Facts::of(&few(&late(5)).history())));
    }
}
