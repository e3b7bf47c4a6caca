//! A run with its verdict.

use super::text::line;
use super::totals::Totals;
use crate::checker::{self, Finding, Overall, Tier, Verdict};
use crate::history::History;
use crate::nemesis::Schedule;

/// A run with its verdict.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The schedule of the run.
    pub schedule: Schedule,
    /// The observations of the run.
    pub history: History,
    /// The verdict of each checker.
    pub findings: Vec<Finding>,
    /// The merged verdict.
    pub overall: Overall,
    /// The figures of the run.
    pub totals: Totals,
}

impl Judged {
    /// Judges a history.
    pub fn new(schedule: Schedule, history: History) -> Self {
        let findings = checker::judge(&history, Tier::Real);
        let overall = Overall::merge(&findings);
        let totals = Totals::of(&history);
        Self { schedule, history, findings, overall, totals }
    }

    /// Returns the verdict of a checker, if it was asked.
    pub fn verdict(&self, checker: &str) -> Option<&Verdict> {
        let mut findings = self.findings.iter();
        let finding = findings.find(|finding| finding.checker == checker);
        finding.map(|finding| &finding.verdict)
    }

    /// Returns one line per checker and one per witness.
    pub fn checks_text(&self) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            write_finding(&mut text, finding);
        }
        text
    }

    /// Returns the last line on stdout.
    pub fn last_line(&self) -> String {
        let Totals { accepted, delivered, dead, lost, duplicates, .. } = self.totals;
        format!(
            "verdict={} seed={} accepted={accepted} delivered={delivered} dead={dead} lost={lost} \
             duplicates={duplicates}",
            self.overall.word(),
            self.schedule.seed,
        )
    }
}

fn write_finding(text: &mut String, finding: &Finding) {
    let (word, name) = (finding.verdict.word(), &finding.checker);
    let examined = finding.verdict.examined();
    let head = format!("{word:<8}{name:<20}examined {examined:>6}  ");
    match &finding.verdict {
        Verdict::Valid { note, .. } => line(text, &format!("{head}{note}")),
        Verdict::Unknown { why, .. } => line(text, &format!("{head}{why}")),
        Verdict::Invalid { violations, witnesses, .. } => {
            let invariant = &finding.invariant;
            line(text, &format!("{head}{violations} violations of: {invariant}"));
            for witness in witnesses {
                let seqs: Vec<String> = witness.seqs.iter().map(u64::to_string).collect();
                let (what, lines) = (&witness.what, seqs.join(", "));
                line(text, &format!("          {what} [lines {lines}]"));
            }
        }
    }
}
