//! No acknowledged event is lost.
//!
//! Judged by what the clients hold (a 202) and what the receivers wrote down (a whole 2xx). The
//! dispatcher's own word can only keep an event from counting as delivered: `dead` is judged by
//! `dead_letters`, and `pending` when the bound has passed by `liveness`.

use super::{Checker, Examination, Kind, Verdict};
use crate::history::facts::{EventFacts, Facts};

/// The register's entry.
pub const CHECKER: Checker = Checker {
    name: "no_loss",
    invariant: "every acknowledged event was received, or is dead for a reason",
    kind: Kind::Safety,
    check,
};

/// What became of an acknowledged event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// A receiver answered a request of it with a whole 2xx.
    Delivered,
    /// Not received, and said to be dead.
    Dead,
    /// Not received, and still on its way when the run ended.
    Late,
    /// Not received, and nobody says so.
    Lost,
    /// Not received, and its state could not be read.
    Unread,
}

/// What became of an event.
#[must_use]
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
                let said = event.status().unwrap_or("nothing of it");
                let what = format!(
                    "event {ordinal} was acknowledged and never received; the dispatcher says {said}"
                );
                examination.broken(what, seqs);
            }
        }
    }
    examination.verdict(
        "no event was acknowledged",
        "every acknowledged event is accounted for".into(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::sample::Sample;
    use crate::history::op::{Op, RecvEnd};

    fn unreceived() -> Sample {
        Sample::default().without(|op| {
            matches!(
                op,
                Op::RecvEnd(RecvEnd {
                    ordinal: Some(0),
                    ..
                })
            )
        })
    }

    #[test]
    fn an_event_that_no_receiver_saw_is_lost_whatever_the_dispatcher_says() {
        let history = unreceived().history();
        let verdict = check(&Facts::of(&history));
        assert!(verdict.is_invalid(), "{verdict:?}");
    }

    #[test]
    fn an_acknowledged_event_that_is_unknown_afterwards_is_lost() {
        let forgotten = unreceived().edit(|_, op| {
            if let Op::State(state) = op {
                state.http = 404;
                state.status = None;
            }
        });
        assert!(check(&Facts::of(&forgotten.history())).is_invalid());
    }

    #[test]
    fn an_event_that_is_still_pending_is_unknown_here() {
        let pending = unreceived().edit(|_, op| {
            if let Op::State(state) = op {
                state.status = Some("pending".into());
            }
        });
        assert_eq!(check(&Facts::of(&pending.history())).word(), "unknown");
    }
}
