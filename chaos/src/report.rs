//! The report: what a run shows to a person and to a machine, written from the history alone.
//!
//! Files of a run directory: `schedule.json` and `history.jsonl` while it runs, then `checks.json`,
//! `manifest.json`, `delivery-proof.log` and `repro.sh`. Nothing here judges; it tells what was judged.

mod proof;
mod totals;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

use serde::Serialize;

use crate::checker::{Finding, Overall, Verdict};
use crate::history::History;
use crate::schedule::Schedule;

pub use totals::Totals;

/// What is known of a run besides its history.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Context {
    /// The commit, with `+dirty` when the checkout differs from it.
    pub git: String,
    /// The command line.
    pub argv: Vec<String>,
    /// What repeats the run.
    pub repeat: String,
    /// The driver, and what it runs.
    pub system: String,
    /// Where the Postgres came from.
    pub postgres: String,
    /// Durability settings, read back from Postgres.
    pub durability: BTreeMap<String, String>,
    /// The machine: kernel, processors.
    pub host: BTreeMap<String, String>,
    /// Kinds of fault that cannot be done here, with the reason.
    pub unavailable: BTreeMap<String, String>,
    /// What was not tried in this run, with the reason.
    pub skipped: Vec<String>,
}

/// The tier of runs on real processes.
pub const TIER: &str = "B";

/// A run that was judged.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The plan.
    pub schedule: Schedule,
    /// What was seen.
    pub history: History,
    /// What each checker said.
    pub findings: Vec<Finding>,
    /// All of it in one word.
    pub overall: Overall,
    /// The figures.
    pub totals: Totals,
}

impl Judged {
    /// Judges a history.
    #[must_use]
    pub fn new(schedule: Schedule, history: History) -> Judged {
        let findings = crate::checker::check_all(&history);
        let overall = Overall::merge(&findings);
        let totals = Totals::of(&history);
        Judged {
            schedule,
            history,
            findings,
            overall,
            totals,
        }
    }

    /// What the named checker said.
    #[must_use]
    pub fn verdict(&self, checker: &str) -> Option<&Verdict> {
        self.findings
            .iter()
            .find(|finding| finding.checker == checker)
            .map(|f| &f.verdict)
    }

    /// One line for each checker, and one for each witness.
    #[must_use]
    pub fn checks_text(&self) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            text.push_str(&finding_text(finding));
        }
        text
    }

    /// The last line that a run prints.
    #[must_use]
    pub fn last_line(&self) -> String {
        let Totals {
            accepted,
            delivered,
            dead,
            lost,
            duplicates,
            ..
        } = self.totals;
        format!(
            "verdict={} seed={} accepted={accepted} delivered={delivered} dead={dead} lost={lost} \
             duplicates={duplicates}",
            self.overall.word(),
            self.schedule.seed,
        )
    }

    /// The text of `delivery-proof.log`.
    #[must_use]
    pub fn proof_text(&self, context: &Context) -> String {
        proof::text(self, context)
    }

    /// Writes the files that are made after a run.
    ///
    /// # Errors
    /// When one cannot be written.
    pub fn write(&self, dir: &Path, context: &Context) -> io::Result<()> {
        std::fs::write(dir.join("checks.json"), json(&self.findings))?;
        std::fs::write(dir.join("manifest.json"), json(&self.manifest(context)))?;
        std::fs::write(dir.join("delivery-proof.log"), self.proof_text(context))?;
        std::fs::write(
            dir.join("repro.sh"),
            format!("#!/bin/sh\nexec {}\n", context.repeat),
        )
    }

    fn manifest(&self, context: &Context) -> serde_json::Value {
        serde_json::json!({
            "seed": self.schedule.seed,
            "tier": TIER,
            "profile": self.schedule.profile,
            "verdict": self.overall,
            "totals": self.totals,
            "history": { "lines": self.history.entries().len(), "tail": self.history.tail() },
            "harness": env!("CARGO_PKG_VERSION"),
            "run": context,
        })
    }
}

/// The first line that a run prints, before anything can fail.
#[must_use]
pub fn first_line(seed: crate::seed::Seed, git: &str, profile: &str) -> String {
    format!("seed={seed} git={git} tier={TIER} profile={profile}")
}

fn finding_text(finding: &Finding) -> String {
    let mut text = String::new();
    let (word, name) = (finding.verdict.word(), &finding.checker);
    let head = format!(
        "{word:<8}{name:<20}examined {:>6}  ",
        finding.verdict.examined()
    );
    match &finding.verdict {
        Verdict::Valid { note, .. } => line(&mut text, &format!("{head}{note}")),
        Verdict::Unknown { why, .. } => line(&mut text, &format!("{head}{why}")),
        Verdict::Invalid {
            violations,
            witnesses,
            ..
        } => {
            line(
                &mut text,
                &format!("{head}{violations} violations of: {}", finding.invariant),
            );
            for witness in witnesses {
                let seqs: Vec<String> = witness.seqs.iter().map(u64::to_string).collect();
                let lines = seqs.join(", ");
                line(
                    &mut text,
                    &format!("          {} [lines {lines}]", witness.what),
                );
            }
        }
    }
    text
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("a string takes everything");
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("plain data is always JSON") + "\n"
}
