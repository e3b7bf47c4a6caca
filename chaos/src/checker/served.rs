//! While clients without a key take connections of the API, health and other clients get responses.
//!
//! A post needs a response of any status, because the database may be away. A post without one is
//! not judged if another fault may have cut or delayed it. A health request is over a new
//! connection to the worker. `/livez` must return 200, and the other paths must return a status.

use std::collections::BTreeMap;

use super::backoff::RECOVERY_SLACK_US;
use super::declaration::{Checker, Property, When};
use super::verdict::{Examination, Verdict};
use crate::fault::Family;
use crate::history::facts::{At, EventFacts, Facts, FaultFacts};
use crate::history::op::{NotAcknowledged, Section};

/// The declaration of this checker.
pub const CHECKER: Checker = Checker {
    name: "served",
    invariant: "while clients without a key take connections, health and authorized posts are answered",
    property: Property::Liveness,
    when: When::real_if("clients without a key took connections", is_exercised),
    needs: &[],
    check,
};

/// The path that reports only that the process responds.
const LIVENESS: &str = "/livez";

fn is_exercised(facts: &Facts<'_>) -> bool {
    crowds(facts).next().is_some()
}

fn crowds<'a, 'h>(facts: &'a Facts<'h>) -> impl Iterator<Item = &'a FaultFacts<'h>> {
    facts.faults.iter().filter(|fault| fault.is_crowd() && fault.is_effective())
}

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    let (mut posts, mut health) = (0_u64, 0_u64);
    for crowd in crowds(facts) {
        let during = crowd.effective_us()..crowd.end_us.unwrap_or(u64::MAX);
        for at in facts.health.iter().filter(|at| during.contains(&at.t)) {
            examination.saw_one();
            health += 1;
            let (via, path) = (&at.op.via, &at.op.path);
            let what = match at.op.status {
                Some(200) => continue,
                Some(_) if path != LIVENESS => continue,
                Some(status) => format!("{path} of {via} returned {status}"),
                None => format!("{path} of {via} got no response"),
            };
            examination.broken(what, [at.seq, crowd.start.seq]);
        }
        for (ordinal, event) in &facts.events {
            if event.section() != Section::Main {
                continue;
            }
            let without = without_response(event);
            for invoke in event.invokes.iter().filter(|at| during.contains(&at.t)) {
                examination.saw_one();
                posts += 1;
                let Some(end) = without.get(&invoke.op.op) else {
                    continue;
                };
                let mut others = facts.faults.iter().filter(|fault| !fault.is_crowd());
                if !others.any(|fault| explains(fault, invoke.t, end.t)) {
                    let why = &end.op.why;
                    let what = format!("a post of event {ordinal} got no response: {why}");
                    examination.broken(what, [invoke.seq, end.seq, crowd.start.seq]);
                }
            }
        }
    }
    let note = format!("{posts} posts and {health} health requests beside the crowd");
    examination.verdict("nothing was requested while the crowd was there", note)
}

/// The posts of an event that got no response, by their number.
fn without_response<'a, 'h>(
    event: &'a EventFacts<'h>,
) -> BTreeMap<u64, &'a At<'h, NotAcknowledged>> {
    let ends = event.unknown.iter().chain(&event.failed);
    ends.filter(|at| at.op.status.is_none()).map(|at| (at.op.op, at)).collect()
}

/// Returns true if a fault may have cut or delayed a post, because connections that were open in it
/// are used again.
fn explains(fault: &FaultFacts<'_>, from_us: u64, to_us: u64) -> bool {
    let may_cut = !matches!(fault.family(), Family::Receiver | Family::Client);
    may_cut && fault.overlaps(from_us, to_us, RECOVERY_SLACK_US)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::story::{SECOND, Story};
    use crate::checker::verdict_line;
    use crate::fault::{Kind, Target};
    use crate::history::op::{FaultEffect, Health, Op};
    use crate::nemesis::{Crowd, HangReceiver, LoseStandby};

    const CROWD: u64 = 20 * SECOND;
    const LEFT: u64 = 23 * SECOND;

    fn with_effect(story: Story, kind: Kind, target: Target, from: u64, to: u64) -> Story {
        let effect = FaultEffect {
            fault: from,
            effective_us: from + SECOND,
            hit: vec![],
            observed: Some("as a test".into()),
        };
        story.with(to, Op::FaultEffect(effect)).with_fault(kind, target, from..to)
    }

    /// A crowd, and an event that is posted at this time.
    fn crowd(posted: u64) -> Story {
        let story = Story::of_four_events().with_event(300, 1, posted, 1_000);
        with_effect(story, Crowd::KIND, Target::Strangers, CROWD, LEFT)
    }

    /// The post of event 300 has no 202, but this end.
    fn ended(story: Story, status: Option<u16>) -> Story {
        story.edit(move |_, op| {
            if let Op::IngestOk(ok) = op
                && ok.ordinal == 300
            {
                let why = "no response until the deadline".into();
                let (op_number, ordinal) = (ok.op, ok.ordinal);
                *op = Op::IngestInfo(NotAcknowledged { op: op_number, ordinal, status, why });
            }
        })
    }

    fn health(path: &str, status: Option<u16>) -> Op {
        Op::Health(Health { via: "w0".into(), path: path.into(), status })
    }

    fn word(story: Story) -> &'static str {
        check(&Facts::of(&story.history())).word()
    }

    #[test]
    fn post_needs_a_response_of_any_status() {
        let during = || crowd(CROWD + SECOND);
        assert_eq!(word(during()), "valid");
        assert_eq!(word(ended(during(), Some(503))), "valid");
        let lost = verdict_line(&CHECKER, &ended(during(), None).history());
        assert!(lost.contains("a post of event 300 got no response: no response until"), "{lost}");
    }

    #[test]
    fn only_posts_beside_the_crowd_are_judged() {
        let lost =
            |posted| word(ended(crowd(posted), None).with(LEFT - 1, health("/livez", Some(200))));
        let posted = [CROWD + SECOND - 1, CROWD + SECOND, LEFT - 1, LEFT];
        assert_eq!(posted.map(lost), ["valid", "INVALID", "INVALID", "valid"]);
    }

    #[test]
    fn aftermath_of_another_fault_explains_a_lost_post() {
        let beside = |kind, target, healed: u64| {
            let lost = ended(crowd(CROWD + SECOND), None);
            word(lost.with_fault(kind, target, 12 * SECOND..healed))
        };
        let late = CROWD + SECOND - RECOVERY_SLACK_US;
        assert_eq!(beside(LoseStandby::KIND, Target::Postgres, late), "valid");
        assert_eq!(beside(LoseStandby::KIND, Target::Postgres, late - 1), "INVALID");
        assert_eq!(beside(HangReceiver::KIND, Target::Receiver(0), late), "INVALID");
    }

    #[test]
    fn health_needs_a_response_and_liveness_a_200() {
        let health = |path, status| word(crowd(LEFT).with(LEFT - 1, health(path, status)));
        assert_eq!(health("/livez", Some(200)), "valid");
        assert_eq!(health("/livez", Some(503)), "INVALID");
        assert_eq!(health("/readyz", Some(503)), "valid");
        assert_eq!(health("/readyz", None), "INVALID");
        assert_eq!(health("/livez", None), "INVALID");
    }

    #[test]
    fn health_outside_of_the_crowd_is_not_judged() {
        let at = |t| word(crowd(CROWD + SECOND).with(t, health("/livez", None)));
        assert_eq!([CROWD + SECOND - 1, LEFT].map(at), ["valid"; 2]);
    }

    #[test]
    fn crowd_without_effect_or_requests_is_unknown() {
        let bare = Story::of_four_events;
        assert!(!is_exercised(&Facts::of(&bare().history())));
        let without_effect =
            bare().with_fault(Crowd::KIND, Target::Strangers, CROWD..LEFT).history();
        assert!(!is_exercised(&Facts::of(&without_effect)));
        assert_eq!(word(crowd(LEFT)), "unknown");
    }
}
