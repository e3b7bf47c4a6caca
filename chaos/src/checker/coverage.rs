//! The run tested what it set out to test: kills that hit open requests, failures, hangs, the gaps of
//! the default settings.
//!
//! It never says that something is broken, only that a pass would mean too little.

use super::{Checker, Examination, Kind, Verdict};
use crate::history::facts::Facts;
use crate::history::op::Section;

/// The register's entry.
pub const CHECKER: Checker = Checker {
    name: "coverage",
    invariant: "the faults of the plan were seen to take effect",
    kind: Kind::Coverage,
    check,
};

/// Gaps that an event of the default section has to show.
const DEFAULT_GAPS: usize = 3;

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    let Some(start) = facts.start else {
        return Verdict::Unknown {
            examined: 0,
            why: "the run has no start".into(),
        };
    };
    let (mut failures, mut hangs) = (0_u64, 0_u64);
    for receipt in facts.receipts() {
        examination.saw_one();
        let hung = receipt
            .begin
            .op
            .scripted
            .as_ref()
            .is_some_and(|s| s.what.starts_with("hang"));
        hangs += u64::from(hung && receipt.end.is_some());
        failures += u64::from(receipt.end.is_some() && !receipt.is_success());
    }
    let kills = facts
        .faults
        .iter()
        .filter(|fault| fault.is_counted_kill())
        .count();
    if kills < start.kills_required as usize {
        let required = start.kills_required;
        examination.doubt(format!(
            "{kills} kills hit an open request, {required} are required"
        ));
    }
    if start.failures_planned && failures == 0 {
        examination.doubt("failures are planned and none was seen".into());
    }
    if start.hangs_planned && hangs == 0 {
        examination.doubt("hangs are planned and none was seen".into());
    }
    let shows = facts.accepted().any(|(_, event)| {
        event.section() == Section::Defaults && event.receipts.len() > DEFAULT_GAPS
    });
    if start.sections.contains_key(&Section::Defaults) && !shows {
        examination.doubt("no event at default settings shows its gaps".into());
    }
    let note = format!("{kills} kills in flight, {failures} failures, {hangs} of them hangs");
    examination.verdict("no request was received", note)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::sample::Sample;
    use crate::history::op::Op;

    fn without(drop: impl Fn(&Op) -> bool) -> &'static str {
        check(&Facts::of(&Sample::default().without(drop).history())).word()
    }

    #[test]
    fn a_kill_that_hit_nothing_does_not_count() {
        assert_eq!(without(|op| matches!(op, Op::FaultEffect(_))), "unknown");
    }

    #[test]
    fn a_run_whose_hangs_were_never_seen_is_unknown() {
        let hang = |op: &Op| matches!(op, Op::RecvEnd(end) if end.how.starts_with("hung"));
        assert_eq!(without(hang), "unknown");
    }

    #[test]
    fn a_run_without_the_gaps_of_the_default_settings_is_unknown() {
        let last = |op: &Op| matches!(op, Op::RecvBegin(b) if b.req.starts_with("r3-4-"));
        assert_eq!(without(last), "unknown");
    }
}
