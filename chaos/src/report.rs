//! The report: the files and lines that a run leaves for a person and for a machine.
//!
//! `schedule.json` and `history.jsonl` exist while the run lasts. This module adds `checks.json`,
//! `manifest.json`, `delivery-proof.log` and `repro.sh`. It reads the history and judges nothing.

mod context;
mod judged;
mod proof;
mod text;
mod totals;

use std::io;
use std::path::Path;

use serde::Serialize;

use crate::history::sha256_hex;

pub use context::{Context, TIER};
pub use judged::Judged;
pub use totals::Totals;

impl Judged {
    /// Returns the text of `delivery-proof.log`.
    pub fn proof_text(&self, context: &Context) -> String {
        proof::text(self, context)
    }

    /// Writes the files of a finished run.
    ///
    /// # Errors
    /// Returns an error if a file cannot be written.
    pub fn write(&self, dir: &Path, context: &Context) -> io::Result<()> {
        std::fs::write(dir.join("checks.json"), json(&self.findings))?;
        std::fs::write(dir.join("manifest.json"), json(&self.manifest(context)))?;
        std::fs::write(dir.join("delivery-proof.log"), self.proof_text(context))?;
        std::fs::write(dir.join("repro.sh"), format!("#!/bin/sh\nexec {}\n", context.repeat))
    }

    fn manifest(&self, context: &Context) -> serde_json::Value {
        serde_json::json!({
            "seed": self.schedule.seed,
            "tier": TIER,
            "profile": self.schedule.profile,
            "verdict": self.overall,
            "totals": self.totals,
            "history": {
                "sha256": self.history.sha256(),
                "lines": self.history.entries().len(),
                "schedule_sha256": sha256_hex(self.schedule.to_text().as_bytes()),
            },
            "audit": self.history.has_audit(),
            "harness": env!("CARGO_PKG_VERSION"),
            "run": context,
        })
    }
}

/// Returns the first line on stdout. A run prints it before anything can fail.
pub fn first_line(seed: crate::seed::Seed, git: &str, profile: &str) -> String {
    format!("seed={seed} git={git} tier={TIER} profile={profile}")
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("plain data is always JSON") + "\n"
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::checker::story::Story;
    use crate::history::History;
    use crate::nemesis::Schedule;
    use crate::profile::Profile;
    use crate::seed::Seed;

    // `verify` refuses a history without the audit that its manifest names.
    #[test]
    fn manifest_states_whether_an_audit_existed() {
        let audit = |history: History| {
            let schedule = Schedule::generate(Seed::new(1), &Profile::calm());
            let dir = tempfile::tempdir().unwrap();
            let judged = Judged::new(schedule, history);
            judged.write(dir.path(), &Context::default()).unwrap();
            let text = std::fs::read_to_string(dir.path().join("manifest.json")).unwrap();
            let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
            manifest["audit"].clone()
        };
        assert_eq!(audit(Story::of_one_event().history()), true);
        assert_eq!(audit(Story::of_four_events().history()), false);
    }
}
