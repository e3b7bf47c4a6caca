//! One idempotency key means one event, and two events never share an id.
//!
//! Judged by what the clients were told and by what the receivers saw: an event whose client has no
//! answer may still have been stored twice. Under one key, posts of other bytes are another event, and
//! one of the two at most is accepted; a post is refused as a conflict only where there is one.

use std::collections::{BTreeMap, BTreeSet};

use super::{Checker, Examination, Kind, Verdict};
use crate::history::facts::{EventFacts, Facts};

/// The register's entry.
pub const CHECKER: Checker = Checker {
    name: "idempotency",
    invariant: "one key gets one id, for one content alone, and no id belongs to two events",
    kind: Kind::Safety,
    check,
};

/// The status of a refusal because another event has the key.
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

fn judge_key(examination: &mut Examination, key: &str, events: &[Posted<'_, '_>]) {
    let ids = events.iter().flat_map(|(_, event)| ids(event));
    let ids: BTreeMap<&str, u64> = ids.collect();
    if ids.len() > 1 {
        let what = format!("the key {key} got the ids {:?}", ids.keys());
        examination.broken(what, ids.values().copied());
    }
    let accepted = events.iter();
    let accepted = accepted.filter(|(_, event)| !event.acknowledged.is_empty());
    let accepted: Vec<_> = accepted.collect();
    if let [(one, first), (other, second), ..] = accepted[..] {
        let what = format!("events {one} and {other}, of other bytes, got one key {key} both");
        let seqs = acknowledgements(first).chain(acknowledgements(second));
        examination.broken(what, seqs);
    }
    if let [(ordinal, event)] = events {
        let refused = event.failed.iter();
        for refused in refused.filter(|at| at.op.status == Some(CONFLICT)) {
            let what =
                format!("event {ordinal} was refused for a conflict that it has with nobody");
            examination.broken(what, [refused.seq]);
        }
    }
}

/// Every id that an event was acknowledged or received under, with a line that tells so.
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
    use crate::checker::sample::Sample;
    use crate::history::op::{Acknowledged, NotAcknowledged, Op};

    fn second_post_gets(id: &'static str) -> Verdict {
        let history = Sample::default().edit(move |_, op| {
            if let Op::IngestOk(ok) = op
                && ok.op == 902
            {
                ok.id = id.into();
            }
        });
        check(&Facts::of(&history.history()))
    }

    #[test]
    fn a_second_id_under_one_key_is_a_violation() {
        assert!(second_post_gets("e2").is_valid());
        assert!(second_post_gets("another").is_invalid());
    }

    #[test]
    fn one_id_for_two_events_is_a_violation() {
        assert!(second_post_gets("e1").is_invalid());
    }

    #[test]
    fn a_second_id_at_a_receiver_is_a_violation_also_where_no_client_was_told_of_it() {
        let history = Sample::default().edit(|_, op| {
            if let Op::RecvBegin(begin) = op
                && begin.ordinal == Some(2)
                && begin.attempt == Some(2)
            {
                begin.id = Some("another".into());
            }
        });
        assert!(check(&Facts::of(&history.history())).is_invalid());
    }

    /// Event 1 posted under the key of event 2, and answered so.
    fn other_bytes(answered: impl Fn(u64) -> Op) -> Verdict {
        let history = Sample::default().edit(move |_, op| match op {
            Op::IngestInvoke(invoke) if invoke.ordinal == 1 => invoke.key = Some("key-2".into()),
            Op::IngestOk(ok) if ok.ordinal == 1 => *op = answered(ok.op),
            _ => {}
        });
        let unsent = history.without(|op| match op {
            Op::RecvBegin(begin) => begin.ordinal == Some(1),
            Op::RecvEnd(end) => end.ordinal == Some(1),
            _ => false,
        });
        check(&Facts::of(&unsent.history()))
    }

    fn refused(op: u64, ordinal: u64) -> Op {
        Op::IngestFail(NotAcknowledged {
            op,
            ordinal,
            status: Some(CONFLICT),
            why: String::new(),
        })
    }

    #[test]
    fn other_bytes_under_a_key_are_refused_and_never_accepted() {
        let accepted = |id: &'static str| {
            other_bytes(move |op| {
                let (ordinal, id) = (1, id.to_owned());
                Op::IngestOk(Acknowledged { op, ordinal, id })
            })
        };
        assert!(other_bytes(|op| refused(op, 1)).is_valid());
        assert!(accepted("e1").is_invalid());
        assert!(accepted("e2").is_invalid());
    }

    #[test]
    fn a_conflict_with_nobody_is_a_violation() {
        let history = Sample::default().edit(|_, op| {
            if let Op::IngestOk(ok) = op
                && ok.op == 902
            {
                *op = refused(902, 2);
            }
        });
        assert!(check(&Facts::of(&history.history())).is_invalid());
    }

    #[test]
    fn a_run_without_an_acknowledgement_is_unknown() {
        let history = Sample::default().without(|op| matches!(op, Op::IngestOk(_)));
        let history = history.without(|op| op.source() == "recv");
        assert_eq!(check(&Facts::of(&history.history())).word(), "unknown");
    }
}
