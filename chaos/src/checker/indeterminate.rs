//! A post without a definite answer (`info`) leaves nothing behind that the contract forbids.
//!
//! Delivered, it is *recovered*; absent, it stays *unknown*; neither is a violation. But half a body is no
//! event: one whose every post was broken off must not be stored at all. And a post stores one event at
//! most: without a key, an event has no more ids than posts that may have stored it. (Two ids for one key
//! are `idempotency`'s to judge.) What was stored is told by acknowledgements, receivers, and the store.

use std::collections::{BTreeMap, BTreeSet};

use super::{Checker, Examination, Kind, Verdict};
use crate::history::facts::{EventFacts, Facts};
use crate::history::transition::Step;

/// The register's entry.
pub const CHECKER: Checker = Checker {
    name: "indeterminate",
    invariant: "a post without a definite answer stored one event or none, and none of half a body",
    kind: Kind::Safety,
    check,
};

/// True for an event with a post that had no definite answer, or ought to have had none.
#[must_use]
pub fn is_asked(event: &EventFacts<'_>) -> bool {
    let mut invokes = event.invokes.iter();
    !event.unknown.is_empty() || invokes.any(|at| at.op.cut_at.is_some())
}

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    let rows = rows(facts);
    let (mut recovered, mut unknown, mut sure) = (0_u64, 0_u64, 0_u64);
    for (ordinal, event) in &facts.events {
        if !is_asked(event) {
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
            let what = format!("event {ordinal} was stored; no post of it was ever sent whole");
            examination.broken(what, lines());
        } else if event.key().is_none() && stored.len() > posts {
            let ids: Vec<&&str> = stored.keys().collect();
            let what = format!("event {ordinal} has the ids {ids:?} of {posts} posts");
            examination.broken(what, lines());
        }
    }
    let note =
        format!("{recovered} recovered, {unknown} unknown, {sure} made sure by another post");
    examination.verdict("every post had a definite answer", note)
}

/// The posts that may have stored something: sent whole, and not certainly refused.
fn may_have_stored(event: &EventFacts<'_>) -> usize {
    let failed: BTreeSet<u64> = event.failed.iter().map(|at| at.op.op).collect();
    let invokes = event.invokes.iter();
    let may = invokes.filter(|at| at.op.cut_at.is_none() && !failed.contains(&at.op.op));
    may.count()
}

/// The ids under which an event was stored, each with the first line that tells so.
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

/// The rows that the store accepted, by ordinal, each with the line that tells so.
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
    use crate::checker::said;
    use crate::checker::sample::Sample;
    use crate::history::op::{Acknowledged, NotAcknowledged, Op};
    use crate::history::transition::Transition;

    /// The sample, in which the post of event 0 ended without a definite answer.
    fn open() -> Sample {
        Sample::default().edit(|_, op| {
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

    /// The same, broken off after so many bytes.
    fn cut() -> Sample {
        open().edit(|_, op| {
            if let Op::IngestInvoke(invoke) = op
                && invoke.ordinal == 0
            {
                invoke.cut_at = Some(40);
            }
        })
    }

    fn unreceived(sample: Sample) -> Sample {
        sample.without(|op| match op {
            Op::RecvBegin(begin) => begin.ordinal == Some(0),
            Op::RecvEnd(end) => end.ordinal == Some(0),
            _ => false,
        })
    }

    fn told(sample: Sample) -> Verdict {
        check(&Facts::of(&sample.history()))
    }

    #[test]
    fn an_open_post_may_be_delivered_and_may_be_absent() {
        let note = |sample: Sample| said(&CHECKER, &sample.history());
        assert_eq!(
            note(open()),
            "valid: 1 examined, 1 recovered, 0 unknown, 0 made sure by another post"
        );
        assert_eq!(
            note(unreceived(open())),
            "valid: 1 examined, 0 recovered, 1 unknown, 0 made sure by another post"
        );
        let again = open().with(40, acknowledged("e0"));
        assert_eq!(
            note(again),
            "valid: 1 examined, 0 recovered, 0 unknown, 1 made sure by another post"
        );
    }

    /// A 202 to a post of event 0.
    fn acknowledged(id: &str) -> Op {
        let (op, ordinal, id) = (0, 0, id.to_owned());
        Op::IngestOk(Acknowledged { op, ordinal, id })
    }

    /// The store's word that a row of event 0 was accepted.
    fn row(id: &str) -> Op {
        Op::Accept(Transition {
            id: id.to_owned(),
            target: Some("http://r/webhook/0".into()),
            ..Transition::default()
        })
    }

    /// Event 0 is posted two times without a key; the second post ends so.
    fn posted_again(ended: fn(NotAcknowledged) -> Op) -> Sample {
        let sample = open().edit(|_, op| match op {
            Op::IngestInvoke(invoke) if invoke.op == 902 => {
                (invoke.op, invoke.ordinal) = (900, 0);
            }
            _ => {}
        });
        let end = NotAcknowledged {
            op: 900,
            ordinal: 0,
            status: None,
            why: String::new(),
        };
        let sample = sample.without(|op| matches!(op, Op::IngestOk(ok) if ok.op == 902));
        sample.with(40, ended(end))
    }

    #[test]
    fn an_event_has_as_many_ids_as_posts_that_may_have_stored_it() {
        let rows = |sample: Sample, ids: &[&str]| {
            let told = |sample: Sample, id: &&str| sample.with(50, row(id));
            told_valid(ids.iter().fold(unreceived(sample), told))
        };
        assert!(rows(posted_again(Op::IngestInfo), &["a", "b"]));
        assert!(!rows(posted_again(Op::IngestInfo), &["a", "b", "c"]));
        assert!(rows(posted_again(Op::IngestFail), &["a"]));
        assert!(!rows(posted_again(Op::IngestFail), &["a", "b"]));
        // Under a key, that is another's to judge.
        let keyed = open().edit(|_, op| {
            if let Op::IngestInvoke(invoke) = op {
                invoke.key = Some("key".into());
            }
        });
        assert!(rows(keyed, &["a", "b"]));
    }

    fn told_valid(sample: Sample) -> bool {
        told(sample).is_valid()
    }

    #[test]
    fn half_a_body_must_not_be_a_row_either() {
        assert!(!told_valid(unreceived(cut()).with(50, row("a"))));
        let another = row("a");
        let of_another = Step::of(&another).map(|(_, at)| at.clone());
        let claim = Op::Claim(of_another.expect("a transition"));
        assert!(told_valid(unreceived(cut()).with(50, claim)));
    }

    #[test]
    fn what_was_stored_is_told_with_its_ids_and_lines() {
        assert_eq!(
            said(
                &CHECKER,
                &unreceived(open())
                    .with(50, row("a"))
                    .with(51, row("b"))
                    .history()
            ),
            "INVALID: 1 of 1 broken; event 0 has the ids [\"a\", \"b\"] of 1 posts (lines [3, 13, 14])"
        );
        assert_eq!(
            said(&CHECKER, &unreceived(cut()).with(50, row("a")).history()),
            "INVALID: 1 of 1 broken; event 0 was stored; no post of it was ever sent whole (lines [3, 13])"
        );
    }

    #[test]
    fn half_a_body_must_leave_nothing_behind() {
        assert!(told(cut()).is_invalid());
        assert!(told(unreceived(cut())).is_valid());
    }

    #[test]
    fn half_a_body_must_not_be_acknowledged_either() {
        let acknowledged = Sample::default().edit(|_, op| {
            if let Op::IngestInvoke(invoke) = op
                && invoke.ordinal == 0
            {
                invoke.cut_at = Some(40);
            }
        });
        assert!(told(acknowledged).is_invalid());
    }

    #[test]
    fn one_post_without_a_key_that_became_two_events_is_a_violation() {
        let two = open().edit(|_, op| {
            if let Op::RecvBegin(begin) = op
                && begin.ordinal == Some(0)
                && begin.attempt == Some(2)
            {
                begin.id = Some("another".into());
            }
        });
        assert!(told(two).is_invalid());
    }

    #[test]
    fn a_run_in_which_every_post_had_its_answer_is_unknown() {
        assert_eq!(told(Sample::default()).word(), "unknown");
    }
}
