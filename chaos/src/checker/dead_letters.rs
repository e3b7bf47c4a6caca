//! The dead events are those that the plan lets die, each for its planned reason.
//!
//! Every other script succeeds before MAX_ATTEMPTS, and MAX_ABANDONED is above the planned faults.
//! An event that is dead for another reason was given up too early.

use super::declaration::{Checker, Need, Property, When};
use super::verdict::{Examination, Verdict};
use crate::history::facts::Facts;

/// The declaration of this checker.
pub const CHECKER: Checker = Checker {
    name: "dead_letters",
    invariant: "an event is dead if, and only if, its script says so, and for that reason",
    property: Property::Safety,
    when: When::REAL,
    needs: &[Need::State],
    check,
};

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    let mut dead = 0_u64;
    for (ordinal, event) in facts.accepted() {
        let Some(state) = event.state else { continue };
        let Some(status) = &state.op.status else {
            continue;
        };
        examination.saw_one();
        let is_dead = status == "dead";
        dead += u64::from(is_dead);
        let reason = is_dead.then(|| state.op.reason.as_deref().unwrap_or("no reason"));
        let planned = facts.start.and_then(|start| start.deaths.get(&ordinal));
        // `liveness` judges events that are still pending.
        if reason == planned.map(String::as_str) || status == "pending" {
            continue;
        }
        let found = reason.map_or(status.clone(), |reason| format!("dead ({reason})"));
        let wanted = planned.map_or("delivered", String::as_str);
        let count = event.receipts.len();
        let what = format!(
            "event {ordinal} is {found} after {count} requests, and the plan expects {wanted}"
        );
        examination.broken(what, [state.seq]);
    }
    let note = match dead {
        0 => "no event is dead".into(),
        dead => format!("{dead} are dead, each as planned"),
    };
    examination.verdict("no final state was read", note)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::story::Story;
    use crate::checker::verdict_line;
    use crate::history::op::Op;

    #[test]
    fn unplanned_death_is_a_violation() {
        let history = Story::of_four_events().edit(|_, op| {
            if let Op::State(state) = op
                && state.ordinal == 2
            {
                state.status = Some("dead".into());
            }
        });
        assert!(check(&Facts::of(&history.history())).is_invalid());
    }

    #[test]
    fn death_for_another_reason_is_a_violation() {
        let died = |reason: Option<&str>| {
            let history = Story::of_four_events().edit(|_, op| match op {
                Op::RunStart(start) => {
                    start.deaths.insert(2, "gone".into());
                }
                Op::State(state) if state.ordinal == 2 && reason.is_some() => {
                    state.status = Some("dead".into());
                    state.reason = reason.map(str::to_owned);
                }
                _ => {}
            });
            let history = history.history();
            let stored = crate::history::History::from_jsonl(&history.to_jsonl());
            assert_eq!(stored.as_ref(), Ok(&history), "the plan's deaths read back");
            check(&Facts::of(&history))
        };
        assert!(died(Some("gone")).is_valid());
        assert!(died(Some("exhausted")).is_invalid());
        assert!(died(None).is_invalid());
    }

    #[test]
    fn dead_events_are_counted_and_violations_name_the_plan() {
        let judged = |status: &'static str, planned: bool| {
            let history = Story::of_four_events().edit(move |_, op| match op {
                Op::RunStart(start) if planned => {
                    start.deaths.insert(2, "gone".into());
                }
                Op::State(state) if state.ordinal == 2 => {
                    (state.status, state.reason) = (Some(status.into()), Some("gone".into()));
                }
                _ => {}
            });
            verdict_line(&CHECKER, &history.history())
        };
        assert_eq!(judged("delivered", false), "valid: 4 examined, no event is dead");
        assert_eq!(judged("dead", true), "valid: 4 examined, 1 are dead, each as planned");
        // Still pending: `liveness` judges that.
        assert_eq!(judged("pending", true), "valid: 4 examined, no event is dead");
        assert_eq!(
            judged("delivered", true),
            "INVALID: 1 of 4 broken; event 2 is delivered after 2 requests, and the plan expects gone (lines [40])"
        );
        assert_eq!(
            judged("dead", false),
            "INVALID: 1 of 4 broken; event 2 is dead (gone) after 2 requests, and the plan expects delivered (lines [40])"
        );
    }

    #[test]
    fn run_without_final_reads_is_unknown() {
        let history = Story::of_four_events().without(|op| matches!(op, Op::State(_)));
        assert_eq!(check(&Facts::of(&history.history())).word(), "unknown");
    }
}
