//! A post without a definite response (`info`) stored at most one event, and none of a partial
//! body.
//!
//! If the event is delivered it counts as recovered, and if it is absent as unknown. Neither is a
//! violation. An event whose posts were all interrupted must not be stored. Without a key, an event
//! has at most as many ids as posts that may have stored it. `idempotency` judges ids under one
//! key.

use std::collections::{BTreeMap, BTreeSet};

use super::declaration::{Checker, Property, When};
use super::verdict::{Examination, Verdict};
use crate::history::facts::{EventFacts, Facts};
use crate::history::transition::Step;

/// The declaration of this checker.
pub const CHECKER: Checker = Checker {
    name: "indeterminate",
    invariant: "a post without a definite response stored at most one event, and none of a partial body",
    property: Property::Safety,
    when: When::only_if("a post had no definite response", is_exercised),
    needs: &[],
    check,
};

/// Returns true if a post of the run had no definite response, or must have had none.
fn is_exercised(facts: &Facts<'_>) -> bool {
    facts.events.values().any(is_open)
}

/// Returns true for an event with a post that had no definite response, or must have had none.
fn is_open(event: &EventFacts<'_>) -> bool {
    let mut invokes = event.invokes.iter();
    !event.unknown.is_empty() || invokes.any(|at| at.op.cut_at.is_some())
}

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    let rows = rows(facts);
    let (mut recovered, mut unknown, mut sure) = (0_u64, 0_u64, 0_u64);
    for (ordinal, event) in &facts.events {
        if !is_open(event) {
            continue;
        }
        examination.saw_one();
        let stored = stored(event, rows.get(ordinal));
        *match (event.acknowledged.is_empty(), event.successes().next()) {
            (false, _) => &mut sure,
            (true, Some(_)) => &mut recovered,
            (true, None) => &mut unknown,
        } += 1;
        let posts = may_have_stored(event);
        let lines = || {
            let posts = event.invokes.iter().map(|at| at.seq);
            posts.chain(stored.values().copied())
        };
        if posts == 0 && !stored.is_empty() {
            let what = format!("event {ordinal} was stored, and no post of it was complete");
            examination.broken(what, lines());
        } else if event.key().is_none() && stored.len() > posts {
            let ids: Vec<&&str> = stored.keys().collect();
            let what = format!(
                "event {ordinal} has the ids {ids:?}, and {posts} posts may have stored it"
            );
            examination.broken(what, lines());
        }
    }
    let note =
        format!("{recovered} recovered, {unknown} unknown, {sure} acknowledged by another post");
    examination.verdict("every post had a definite response", note)
}

/// Counts the posts that may have stored an event: complete, and not refused for certain.
fn may_have_stored(event: &EventFacts<'_>) -> usize {
    let failed: BTreeSet<u64> = event.failed.iter().map(|at| at.op.op).collect();
    let invokes = event.invokes.iter();
    let may = invokes.filter(|at| at.op.cut_at.is_none() && !failed.contains(&at.op.op));
    may.count()
}

/// The ids under which an event was stored, each with the first line that shows it.
fn stored<'h>(
    event: &EventFacts<'h>,
    rows: Option<&BTreeMap<&'h str, u64>>,
) -> BTreeMap<&'h str, u64> {
    let acknowledged = event.acknowledged.iter();
    let acknowledged = acknowledged.map(|at| (at.op.id.as_str(), at.seq));
    let received = event.receipts.iter().filter(|receipt| receipt.is_signed());
    let received =
        received.filter_map(|receipt| Some((receipt.begin.op.id.as_deref()?, receipt.begin.seq)));
    let rows = rows.into_iter().flatten().map(|(id, seq)| (*id, *seq));
    let mut stored = BTreeMap::new();
    for (id, seq) in acknowledged.chain(received).chain(rows) {
        stored.entry(id).or_insert(seq);
    }
    stored
}

/// The rows that the store accepted, by ordinal, each with its line.
fn rows<'h>(facts: &Facts<'h>) -> BTreeMap<u64, BTreeMap<&'h str, u64>> {
    let mut rows: BTreeMap<u64, BTreeMap<&str, u64>> = BTreeMap::new();
    for (id, row) in &facts.rows {
        if let (Some(ordinal), Some((Step::Accept, at))) = (row.ordinal, row.steps.first()) {
            rows.entry(ordinal).or_default().insert(*id, at.seq);
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::story::Story;
    use crate::checker::verdict_line;
    use crate::history::op::{Acknowledged, NotAcknowledged, Op};
    use crate::history::transition::Transition;

    /// The history of four events, in which the post of event 0 has no definite response.
    fn open() -> Story {
        Story::of_four_events().edit(|_, op| {
            if let Op::IngestOk(ok) = op
                && ok.ordinal == 0
            {
                *op = Op::IngestInfo(NotAcknowledged {
                    op: ok.op,
                    ordinal: 0,
                    status: None,
                    why: "reset".into(),
                });
            }
        })
    }

    /// The same, but the post was interrupted.
    fn cut() -> Story {
        open().edit(|_, op| {
            if let Op::IngestInvoke(invoke) = op
                && invoke.ordinal == 0
            {
                invoke.cut_at = Some(40);
            }
        })
    }

    fn unreceived(story: Story) -> Story {
        story.without(|op| match op {
            Op::RecvBegin(begin) => begin.ordinal == Some(0),
            Op::RecvEnd(end) => end.ordinal == Some(0),
            _ => false,
        })
    }

    fn judged(story: Story) -> Verdict {
        check(&Facts::of(&story.history()))
    }

    #[test]
    fn open_post_may_be_delivered_or_absent() {
        let note = |story: Story| verdict_line(&CHECKER, &story.history());
        assert_eq!(
            note(open()),
            "valid: 1 examined, 1 recovered, 0 unknown, 0 acknowledged by another post"
        );
        assert_eq!(
            note(unreceived(open())),
            "valid: 1 examined, 0 recovered, 1 unknown, 0 acknowledged by another post"
        );
        let again = open().with(40, acknowledged("e0"));
        assert_eq!(
            note(again),
            "valid: 1 examined, 0 recovered, 0 unknown, 1 acknowledged by another post"
        );
    }

    /// A 202 to a post of event 0.
    fn acknowledged(id: &str) -> Op {
        let (op, ordinal, id) = (0, 0, id.to_owned());
        Op::IngestOk(Acknowledged { op, ordinal, id })
    }

    /// The commit of a row of event 0.
    fn row(id: &str) -> Op {
        Op::Accept(Transition {
            id: id.to_owned(),
            target: Some("http://r/webhook/0".into()),
            ..Transition::default()
        })
    }

    /// Event 0 is posted twice without a key, and the second post ends like this.
    fn posted_again(ended: fn(NotAcknowledged) -> Op) -> Story {
        let story = open().edit(|_, op| match op {
            Op::IngestInvoke(invoke) if invoke.op == 902 => {
                (invoke.op, invoke.ordinal) = (900, 0);
            }
            _ => {}
        });
        let end = NotAcknowledged { op: 900, ordinal: 0, status: None, why: String::new() };
        let story = story.without(|op| matches!(op, Op::IngestOk(ok) if ok.op == 902));
        story.with(40, ended(end))
    }

    #[test]
    fn event_has_at_most_one_id_per_post() {
        let rows = |story: Story, ids: &[&str]| {
            let with_row = |story: Story, id: &&str| story.with(50, row(id));
            is_valid(ids.iter().fold(unreceived(story), with_row))
        };
        assert!(rows(posted_again(Op::IngestInfo), &["a", "b"]));
        assert!(!rows(posted_again(Op::IngestInfo), &["a", "b", "c"]));
        assert!(rows(posted_again(Op::IngestFail), &["a"]));
        assert!(!rows(posted_again(Op::IngestFail), &["a", "b"]));
        // `idempotency` judges ids under a key.
        let keyed = open().edit(|_, op| {
            if let Op::IngestInvoke(invoke) = op {
                invoke.key = Some("key".into());
            }
        });
        assert!(rows(keyed, &["a", "b"]));
    }

    fn is_valid(story: Story) -> bool {
        judged(story).is_valid()
    }

    #[test]
    fn partial_body_must_not_become_a_row() {
        assert!(!is_valid(unreceived(cut()).with(50, row("a"))));
        let another = row("a");
        let of_another = another.transition().map(|(_, at)| at.clone());
        let claim = Op::Claim(of_another.expect("a transition"));
        assert!(is_valid(unreceived(cut()).with(50, claim)));
    }

    #[test]
    fn violation_states_ids_and_lines() {
        assert_eq!(
            verdict_line(
                &CHECKER,
                &unreceived(open()).with(50, row("a")).with(51, row("b")).history()
            ),
            "INVALID: 1 of 1 broken; event 0 has the ids [\"a\", \"b\"], and 1 posts may have stored it (lines [3, 13, 14])"
        );
        assert_eq!(
            verdict_line(&CHECKER, &unreceived(cut()).with(50, row("a")).history()),
            "INVALID: 1 of 1 broken; event 0 was stored, and no post of it was complete (lines [3, 13])"
        );
    }

    #[test]
    fn partial_body_must_not_be_delivered() {
        assert!(judged(cut()).is_invalid());
        assert!(judged(unreceived(cut())).is_valid());
    }

    #[test]
    fn partial_body_must_not_be_acknowledged() {
        let acknowledged = Story::of_four_events().edit(|_, op| {
            if let Op::IngestInvoke(invoke) = op
                && invoke.ordinal == 0
            {
                invoke.cut_at = Some(40);
            }
        });
        assert!(judged(acknowledged).is_invalid());
    }

    #[test]
    fn two_events_of_one_post_are_a_violation() {
        let two = open().edit(|_, op| {
            if let Op::RecvBegin(begin) = op
                && begin.ordinal == Some(0)
                && begin.attempt == Some(2)
            {
                begin.id = Some("another".into());
            }
        });
        assert!(judged(two).is_invalid());
    }

    #[test]
    fn run_of_definite_responses_is_unknown() {
        assert_eq!(judged(Story::of_four_events()).word(), "unknown");
    }
}
