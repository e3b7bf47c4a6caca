//! `chaos verify`: the verdict of a stored run once more, from its files alone.
//!
//! Nothing is started and nothing is written. The history must be whole (each line carries the hash of
//! the one before, the manifest that of the last) and belong to its schedule; then every checker judges
//! it again, and what is said must be what was said.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use serde::Deserialize;

use super::output::{EXIT_ENVIRONMENT, EXIT_OTHER, say};
use crate::checker::{Finding, Overall};
use crate::history::{History, Op, sha256_hex};
use crate::report::Judged;
use crate::schedule::Schedule;

/// The flags of `chaos verify`.
#[derive(Clone, Debug, Args)]
pub struct VerifyArgs {
    /// The directory of a run.
    pub dir: PathBuf,
}

/// What the manifest says of the history and its verdict.
#[derive(Deserialize)]
struct Manifest {
    verdict: Overall,
    history: Extent,
}

#[derive(Deserialize)]
struct Extent {
    lines: usize,
    tail: String,
}

/// Judges a stored run again, from arguments to exit code.
#[must_use]
pub fn verify(args: &VerifyArgs) -> u8 {
    let (judged, stored) = match load(&args.dir) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("error: {error:#}");
            return EXIT_ENVIRONMENT;
        }
    };
    eprint!("{}", judged.checks_text());
    say(&judged.last_line());
    if let Some(difference) = difference(&judged, &stored) {
        eprintln!("error: {difference}");
        return EXIT_OTHER;
    }
    judged.overall.exit_code()
}

/// What was said when the run ended.
struct Stored {
    verdict: Overall,
    findings: Vec<Finding>,
}

fn load(dir: &Path) -> anyhow::Result<(Judged, Stored)> {
    let here = dir.display();
    ensure!(
        dir.is_dir(),
        "{here} is no directory: give that of a run, which `chaos run` names on stderr"
    );
    let history = History::from_jsonl(&read(dir, "history.jsonl")?)?;
    let text = read(dir, "schedule.json")?;
    let schedule = Schedule::from_text(&text).context("schedule.json")?;
    let Some(Op::RunStart(start)) = history.entries().first().map(|entry| &entry.op) else {
        bail!("line 1 of the history is not the start of a run");
    };
    ensure!(
        start.schedule_sha256 == sha256_hex(text.as_bytes()),
        "schedule.json is not the one that the history was made with"
    );
    let manifest: Manifest =
        serde_json::from_str(&read(dir, "manifest.json")?).context("manifest.json")?;
    let Extent { lines, tail } = manifest.history;
    let found = history.entries().len();
    ensure!(
        lines == found && tail == history.tail(),
        "the manifest names a history of {lines} lines, this one has {found}: edited or cut"
    );
    let findings = serde_json::from_str(&read(dir, "checks.json")?).context("checks.json")?;
    let stored = Stored {
        verdict: manifest.verdict,
        findings,
    };
    Ok((Judged::new(schedule, history), stored))
}

fn read(dir: &Path, name: &str) -> anyhow::Result<String> {
    let path = dir.join(name);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

fn difference(judged: &Judged, stored: &Stored) -> Option<String> {
    let (now, then) = (judged.overall.word(), stored.verdict.word());
    if now != then {
        return Some(format!("the verdict is {now}, the stored one is {then}"));
    }
    let said = |checker: &str| stored.findings.iter().find(|f| f.checker == checker);
    let other = judged
        .findings
        .iter()
        .find(|finding| said(&finding.checker) != Some(finding))?;
    let then = said(&other.checker).map_or("nothing", |finding| finding.verdict.word());
    Some(format!(
        "{} says {}, and said {then} when the run ended",
        other.checker,
        other.told()
    ))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::checker::sample::Sample;
    use crate::profile::Profile;
    use crate::report::Context;
    use crate::seed::Seed;

    /// A stored run: an honest history under a schedule that it names.
    fn stored() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let schedule = Schedule::generate(Seed::new(7), &Profile::calm().with_events(3));
        let text = schedule.to_text();
        let sample = Sample::default().edit(|_, op| {
            if let Op::RunStart(start) = op {
                start.schedule_sha256 = sha256_hex(text.as_bytes());
            }
        });
        let judged = Judged::new(schedule, sample.history());
        std::fs::write(dir.path().join("schedule.json"), text).unwrap();
        let lines = judged.history.to_jsonl();
        std::fs::write(dir.path().join("history.jsonl"), lines).unwrap();
        judged.write(dir.path(), &Context::default()).unwrap();
        dir
    }

    fn code(dir: &tempfile::TempDir) -> u8 {
        let dir = dir.path().to_owned();
        verify(&VerifyArgs { dir })
    }

    fn change(dir: &tempfile::TempDir, name: &str, change: impl Fn(String) -> String) {
        let path = dir.path().join(name);
        let text = std::fs::read_to_string(&path).unwrap();
        let changed = change(text.clone());
        assert_ne!(changed, text, "nothing was changed");
        std::fs::write(path, changed).unwrap();
    }

    #[test]
    fn a_stored_run_is_judged_as_it_was() {
        assert_eq!(code(&stored()), 0);
    }

    #[test]
    fn a_history_that_lacks_its_last_line_or_half_of_it_has_no_verdict() {
        let dir = stored();
        let without_last = |text: String| {
            let end = text.trim_end().rfind('\n').unwrap();
            text[..=end].to_owned()
        };
        change(&dir, "history.jsonl", without_last);
        assert_eq!(code(&dir), EXIT_ENVIRONMENT);
        change(&dir, "history.jsonl", |text| {
            text[..text.len() - 9].to_owned()
        });
        assert_eq!(code(&dir), EXIT_ENVIRONMENT);
    }

    #[test]
    fn an_edited_line_has_no_verdict_even_if_it_is_the_last() {
        for at in [true, false] {
            let dir = stored();
            change(&dir, "history.jsonl", |text| {
                let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
                let place = if at { lines.len() - 1 } else { 2 };
                lines[place] = lines[place].replacen("\"t\":", "\"t\": ", 1);
                lines.join("\n") + "\n"
            });
            assert_eq!(code(&dir), EXIT_ENVIRONMENT);
        }
    }

    #[test]
    fn another_schedule_a_missing_file_and_a_missing_directory_have_no_verdict() {
        let dir = stored();
        change(&dir, "schedule.json", |text| text + "\n");
        assert_eq!(code(&dir), EXIT_ENVIRONMENT);
        let dir = stored();
        std::fs::remove_file(dir.path().join("manifest.json")).unwrap();
        assert_eq!(code(&dir), EXIT_ENVIRONMENT);
        let dir = PathBuf::from("/nonexistent/run");
        assert_eq!(verify(&VerifyArgs { dir }), EXIT_ENVIRONMENT);
    }

    #[test]
    fn a_stored_verdict_that_the_history_does_not_give_is_told() {
        let dir = stored();
        change(&dir, "checks.json", |text| {
            text.replacen("\"examined\": ", "\"examined\": 9", 1)
        });
        assert_eq!(code(&dir), EXIT_OTHER);
        let dir = stored();
        change(&dir, "manifest.json", |text| {
            text.replacen("\"verdict\": \"pass\"", "\"verdict\": \"unsafe\"", 1)
        });
        assert_eq!(code(&dir), EXIT_OTHER);
    }
}
