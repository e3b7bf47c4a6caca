//! One idempotency key gets one event, and two events never share an id.
//!
//! The checker uses acknowledgements and requests, because an event without a response to its
//! client may still have been stored twice. Posts of other bytes under a key are another event, and
//! at most one of the two is accepted. A post is refused with 409 only if there is a conflict.

use std::collections::{BTreeMap, BTreeSet};

use super::declaration::{Checker, Need, Property, When};
use super::verdict::{Examination, Verdict};
use crate::history::facts::{EventFacts, Facts};

/// The declaration of this checker.
pub const CHECKER: Checker = Checker {
    name: "idempotency",
    invariant: "one key gets one id for one content, and no id belongs to two events",
    property: Property::Safety,
    when: When::ALWAYS,
    needs: &[Need::Keys],
    check,
};

/// The status of a post whose key belongs to another event.
const CONFLICT: u16 = 409;

/// An event with its ordinal.
type Posted<'f, 'h> = (u64, &'f EventFacts<'h>);

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    let mut owners: BTreeMap<&str, u64> = BTreeMap::new();
    for (ordinal, event) in facts.accepted() {
        examination.saw_one();
        let ids: BTreeSet<&str> = event.acknowledged.iter().map(|at| &*at.op.id).collect();
        for id in ids {
            if let Some(other) = owners.insert(id, ordinal) {
                let what = format!("events {other} and {ordinal} got one id, {id}");
                examination.broken(what, acknowledgements(event));
            }
        }
    }
    let mut keys: BTreeMap<&str, Vec<Posted<'_, '_>>> = BTreeMap::new();
    for (ordinal, event) in &facts.events {
        if let Some(key) = event.key() {
            keys.entry(key).or_default().push((*ordinal, event));
        }
    }
    let (mut again, mut contested) = (0_u64, 0_u64);
    for (key, events) in &keys {
        let posts: usize = events.iter().map(|(_, event)| event.invokes.len()).sum();
        again += u64::from(posts > 1);
        contested += u64::from(events.len() > 1);
        judge_key(&mut examination, key, events);
    }
    let note = format!("{again} keys posted again, {contested} of them with other bytes");
    examination.verdict("no event was acknowledged", note)
}

/// Judges one key. Two events that are accepted under it have two ids, or share one, which
/// [`check`] finds.
fn judge_key(examination: &mut Examination, key: &str, events: &[Posted<'_, '_>]) {
    let ids = events.iter().flat_map(|(_, event)| ids(event));
    let ids: BTreeMap<&str, u64> = ids.collect();
    if ids.len() > 1 {
        let what = format!("the key {key} got the ids {:?}", ids.keys());
        examination.broken(what, ids.values().copied());
    }
    if let [(ordinal, event)] = events {
        let refused = event.failed.iter();
        for refused in refused.filter(|at| at.op.status == Some(CONFLICT)) {
            let what = format!(
                "event {ordinal} was refused as a conflict, and no other event has its key"
            );
            examination.broken(what, [refused.seq]);
        }
    }
}

/// Every id under which an event was acknowledged or received, with a line that shows it.
fn ids<'f, 'h>(event: &'f EventFacts<'h>) -> impl Iterator<Item = (&'h str, u64)> + use<'f, 'h> {
    let acknowledged = event.acknowledged.iter();
    let acknowledged = acknowledged.map(|at| (at.op.id.as_str(), at.seq));
    let received = event.receipts.iter().filter(|receipt| receipt.is_signed());
    let received =
        received.filter_map(|receipt| Some((receipt.begin.op.id.as_deref()?, receipt.begin.seq)));
    acknowledged.chain(received)
}

fn acknowledgements(event: &EventFacts<'_>) -> impl Iterator<Item = u64> {
    event.acknowledged.iter().map(|at| at.seq)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::Witness;
    use crate::checker::story::Story;
    use crate::checker::verdict_line;
    use crate::history::op::{Acknowledged, NotAcknowledged, Op};

    fn second_post_gets(id: &'static str) -> Verdict {
        let history = Story::of_four_events().edit(move |_, op| {
            if let Op::IngestOk(ok) = op
                && ok.op == 902
            {
                ok.id = id.into();
            }
        });
        check(&Facts::of(&history.history()))
    }

    #[test]
    fn second_id_under_one_key_is_a_violation() {
        assert!(second_post_gets("e2").is_valid());
        assert!(second_post_gets("another").is_invalid());
    }

    #[test]
    fn id_of_two_events_is_a_violation() {
        let verdict = second_post_gets("e1");
        let Verdict::Invalid { witnesses, .. } = verdict else {
            panic!("{verdict:?}");
        };
        let what = "events 1 and 2 got one id, e1".into();
        assert_eq!(witnesses[0], Witness::new(what, [8, 12]));
    }

    #[test]
    fn second_id_at_a_receiver_is_a_violation() {
        let history = Story::of_four_events().edit(|_, op| {
            if let Op::RecvBegin(begin) = op
                && begin.ordinal == Some(2)
                && begin.attempt == Some(2)
            {
                begin.id = Some("another".into());
            }
        });
        assert!(check(&Facts::of(&history.history())).is_invalid());
    }

    /// The verdict if event 1 is posted under the key of event 2 and gets this response.
    fn other_bytes(answered: impl Fn(u64) -> Op) -> String {
        let history = Story::of_four_events().edit(move |_, op| match op {
            Op::IngestInvoke(invoke) if invoke.ordinal == 1 => invoke.key = Some("key-2".into()),
            Op::IngestOk(ok) if ok.ordinal == 1 => *op = answered(ok.op),
            _ => {}
        });
        let unsent = history.without(|op| match op {
            Op::RecvBegin(begin) => begin.ordinal == Some(1),
            Op::RecvEnd(end) => end.ordinal == Some(1),
            _ => false,
        });
        verdict_line(&CHECKER, &unsent.history())
    }

    fn refused(op: u64, ordinal: u64) -> Op {
        refused_with(CONFLICT, op, ordinal)
    }

    fn refused_with(status: u16, op: u64, ordinal: u64) -> Op {
        Op::IngestFail(NotAcknowledged { op, ordinal, status: Some(status), why: String::new() })
    }

    #[test]
    fn other_bytes_under_a_key_must_be_refused() {
        let accepted = |id: &'static str| {
            other_bytes(move |op| {
                let (ordinal, id) = (1, id.to_owned());
                Op::IngestOk(Acknowledged { op, ordinal, id })
            })
        };
        assert_eq!(
            other_bytes(|op| refused(op, 1)),
            "valid: 3 examined, 1 keys posted again, 1 of them with other bytes"
        );
        assert!(accepted("e1").starts_with("INVALID: 1 of 4 broken; the key key-2 got the ids"));
        assert!(
            accepted("e2").starts_with("INVALID: 1 of 4 broken; events 1 and 2 got one id, e2")
        );
    }

    #[test]
    fn conflict_without_another_event_is_a_violation() {
        let second_post_is_refused_with = |status| {
            let history = Story::of_four_events().edit(move |_, op| {
                if let Op::IngestOk(ok) = op
                    && ok.op == 902
                {
                    *op = refused_with(status, 902, 2);
                }
            });
            check(&Facts::of(&history.history()))
        };
        assert!(second_post_is_refused_with(CONFLICT).is_invalid());
        assert!(second_post_is_refused_with(429).is_valid());
    }

    #[test]
    fn key_of_one_post_is_not_posted_again() {
        let history = Story::of_four_events().edit(|_, op| match op {
            Op::IngestInvoke(invoke) if invoke.ordinal == 1 => invoke.key = Some("key-1".into()),
            _ => {}
        });
        assert_eq!(
            verdict_line(&CHECKER, &history.history()),
            "valid: 4 examined, 1 keys posted again, 0 of them with other bytes"
        );
    }

    #[test]
    fn run_without_an_acknowledgement_is_unknown() {
        let history = Story::of_four_events().without(|op| matches!(op, Op::IngestOk(_)));
        let history = history.without(|op| op.source() == "recv");
        assert_eq!(check(&Facts::of(&history.history())).word(), "unknown");
    }
}
