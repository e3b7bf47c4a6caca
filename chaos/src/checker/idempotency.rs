//! One idempotency key means one event, and two events never share an id.

use std::collections::{BTreeMap, BTreeSet};

use super::{Checker, Examination, Kind, Verdict};
use crate::history::facts::Facts;

/// The register's entry.
pub const CHECKER: Checker = Checker {
    name: "idempotency",
    invariant: "posts under one key get one id, and no id belongs to two events",
    kind: Kind::Safety,
    check,
};

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    let mut owners: BTreeMap<&str, u64> = BTreeMap::new();
    let mut again = 0;
    for (ordinal, event) in facts.accepted() {
        examination.saw_one();
        let keyed = event.invokes.iter().any(|at| at.op.key.is_some());
        again += u64::from(keyed && event.invokes.len() > 1);
        let ids: BTreeSet<&str> = event
            .acknowledged
            .iter()
            .map(|at| at.op.id.as_str())
            .collect();
        if keyed && ids.len() > 1 {
            let seqs = event.acknowledged.iter().map(|at| at.seq);
            examination.broken(
                format!("event {ordinal} got the ids {ids:?} under one key"),
                seqs,
            );
        }
        for id in ids {
            if let Some(other) = owners.insert(id, ordinal) {
                let seqs = event.acknowledged.iter().map(|at| at.seq);
                examination.broken(
                    format!("events {other} and {ordinal} got one id, {id}"),
                    seqs,
                );
            }
        }
    }
    examination.verdict(
        "no event was acknowledged",
        format!("{again} events posted again under their key"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::sample::Sample;
    use crate::history::op::Op;

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
}
