//! No acknowledged event is lost.
//!
//! A loss is judged by the 202 of the client and the complete 2xx of the receivers. The state that
//! the dispatcher reports can only explain a missing delivery: `dead_letters` judges dead events,
//! and `liveness` those that are still pending.

use super::declaration::{Checker, Need, Property, When};
use super::verdict::{Examination, Verdict};
use crate::history::facts::{EventFacts, Facts};

/// The declaration of this checker.
pub const CHECKER: Checker = Checker {
    name: "no_loss",
    invariant: "every acknowledged event was delivered, or is dead for a reason",
    property: Property::Safety,
    when: When::ALWAYS,
    needs: &[Need::State],
    check,
};

/// The result of an acknowledged event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// A receiver sent a complete 2xx.
    Delivered,
    /// Not delivered, and reported as dead.
    Dead,
    /// Not delivered, and reported as pending at the end.
    Late,
    /// Not delivered, and reported as delivered or unknown.
    Lost,
    /// Not delivered, and its state could not be read.
    Unread,
}

/// Returns the result of an event.
pub fn fate(event: &EventFacts<'_>) -> Fate {
    if event.successes().next().is_some() {
        return Fate::Delivered;
    }
    match event.state.map(|at| (at.op.http, at.op.status.as_deref())) {
        None | Some((0 | 500.., _)) => Fate::Unread,
        Some((_, Some("dead"))) => Fate::Dead,
        Some((_, Some("pending"))) => Fate::Late,
        Some(_) => Fate::Lost,
    }
}

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    for (ordinal, event) in facts.accepted() {
        examination.saw_one();
        let state = event.state.map(|at| at.seq);
        let seqs = event.acknowledged.iter().map(|at| at.seq).chain(state);
        match fate(event) {
            Fate::Delivered | Fate::Dead => {}
            Fate::Late => examination.doubt(format!("event {ordinal} was still pending")),
            Fate::Unread => examination.doubt(format!("event {ordinal} could not be read")),
            Fate::Lost => {
                let reported = event.status().unwrap_or("unknown");
                let what = format!(
                    "event {ordinal} was acknowledged and not delivered, and its reported state is {reported}"
                );
                examination.broken(what, seqs);
            }
        }
    }
    examination
        .verdict("no event was acknowledged", "every acknowledged event is accounted for".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::story::Story;
    use crate::history::op::{Op, RecvEnd};

    fn unreceived() -> Story {
        Story::of_four_events()
            .without(|op| matches!(op, Op::RecvEnd(RecvEnd { ordinal: Some(0), .. })))
    }

    #[test]
    fn event_without_a_2xx_is_lost_although_reported_delivered() {
        let history = unreceived().history();
        let verdict = check(&Facts::of(&history));
        assert!(verdict.is_invalid(), "{verdict:?}");
    }

    #[test]
    fn acknowledged_event_that_is_unknown_later_is_lost() {
        let forgotten = unreceived().edit(|_, op| {
            if let Op::State(state) = op {
                state.http = 404;
                state.status = None;
            }
        });
        assert!(check(&Facts::of(&forgotten.history())).is_invalid());
    }

    #[test]
    fn pending_event_is_unknown() {
        let pending = unreceived().edit(|_, op| {
            if let Op::State(state) = op {
                state.status = Some("pending".into());
            }
        });
        assert_eq!(check(&Facts::of(&pending.history())).word(), "unknown");
    }
}
