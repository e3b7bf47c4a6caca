//! `chaos verify`: judges a stored run again from its files.
//!
//! It starts nothing and writes nothing. The files must be those that the manifest names: the
//! history by its SHA-256, its number of lines and its audit, the schedule by its SHA-256. The
//! verdict and every finding must then equal the stored ones.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use serde::Deserialize;

use super::output::{EXIT_ENVIRONMENT, EXIT_OTHER, say};
use crate::checker::{Finding, Overall};
use crate::history::{History, Op, sha256_hex};
use crate::nemesis::Schedule;
use crate::report::Judged;

/// The flags of `chaos verify`.
#[derive(Clone, Debug, Args)]
pub struct VerifyArgs {
    /// The directory of a run.
    pub dir: PathBuf,
}

/// The part of `manifest.json` that names the other files and the verdict.
#[derive(Deserialize)]
struct Manifest {
    verdict: Overall,
    history: HistoryFile,
    audit: bool,
}

/// The identity of `history.jsonl`.
#[derive(Deserialize)]
struct HistoryFile {
    sha256: String,
    lines: usize,
    schedule_sha256: String,
}

/// The verdict and the findings from the end of the run.
struct Stored {
    overall: Overall,
    findings: Vec<Finding>,
}

/// Judges a stored run again and returns the exit code.
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

fn load(dir: &Path) -> anyhow::Result<(Judged, Stored)> {
    let here = dir.display();
    ensure!(
        dir.is_dir(),
        "{here} is not a directory: give the directory of a run, which `chaos run` prints to stderr"
    );
    let text = read(dir, "history.jsonl")?;
    let manifest = manifest(dir)?;
    let history = history(&text, &manifest)?;
    let schedule = schedule(dir, &history, &manifest.history)?;
    let findings = serde_json::from_str(&read(dir, "checks.json")?).context("checks.json")?;
    let stored = Stored { overall: manifest.verdict, findings };
    Ok((Judged::new(schedule, history), stored))
}

fn manifest(dir: &Path) -> anyhow::Result<Manifest> {
    let manifest: serde_json::Value =
        serde_json::from_str(&read(dir, "manifest.json")?).context("manifest.json")?;
    ensure!(
        manifest["history"]["tail"].is_null(),
        "this run was recorded by an older harness with a hash in each line of its history: \
         verify it with the harness that recorded it"
    );
    serde_json::from_value(manifest).context("manifest.json")
}

/// Parses the history if it is the one that the manifest names.
fn history(text: &str, manifest: &Manifest) -> anyhow::Result<History> {
    let file = &manifest.history;
    let found = text.lines().count();
    ensure!(
        file.sha256 == sha256_hex(text.as_bytes()) && file.lines == found,
        "history.jsonl is not the file of {} lines that the manifest names, this one has {found}: \
         it was edited or cut",
        file.lines
    );
    let history = History::from_jsonl(text)?;
    ensure!(
        manifest.audit == history.has_audit(),
        "the manifest states audit: {}, and the history does not agree: one of them was edited",
        manifest.audit
    );
    Ok(history)
}

/// Parses the schedule if it is the one of the manifest and of the start of the history.
fn schedule(dir: &Path, history: &History, file: &HistoryFile) -> anyhow::Result<Schedule> {
    let text = read(dir, "schedule.json")?;
    let Some(Op::RunStart(start)) = history.entries().first().map(|entry| &entry.op) else {
        bail!("line 1 of the history is not the start of a run");
    };
    let sha256 = sha256_hex(text.as_bytes());
    ensure!(
        start.schedule_sha256 == sha256 && file.schedule_sha256 == sha256,
        "schedule.json is not the schedule of this run: it was edited or replaced"
    );
    Schedule::from_text(&text).context("schedule.json")
}

fn read(dir: &Path, name: &str) -> anyhow::Result<String> {
    let path = dir.join(name);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// Returns the first difference between the verdicts now and the stored ones, in either direction.
fn difference(judged: &Judged, stored: &Stored) -> Option<String> {
    let (now, then) = (judged.overall.word(), stored.overall.word());
    if now != then {
        return Some(format!("the verdict is {now}, and the stored one is {then}"));
    }
    let find = |findings: &[Finding], checker: &str| -> Option<Finding> {
        findings.iter().find(|f| f.checker == checker).cloned()
    };
    let both = judged.findings.iter().chain(&stored.findings);
    let mut names = both.map(|finding| finding.checker.as_str());
    names.find_map(|checker| {
        let now = find(&judged.findings, checker);
        let then = find(&stored.findings, checker);
        (now != then).then(|| {
            let text = |finding: Option<Finding>| {
                finding.map_or("absent".to_owned(), |finding| {
                    format!("{}: {}", finding.verdict.word(), finding.summary())
                })
            };
            format!("{checker} is {}, and the stored finding is {}", text(now), text(then))
        })
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::checker::story::Story;
    use crate::profile::Profile;
    use crate::report::Context;
    use crate::seed::Seed;

    /// A stored run: an honest history of a schedule.
    fn stored() -> tempfile::TempDir {
        stored_run(|edit| Story::of_four_events().edit(edit).history())
    }

    /// The same with a store that accepted, claimed, settled and counted one event.
    fn stored_with_audit() -> tempfile::TempDir {
        stored_run(|edit| Story::of_one_event().edit(edit).history())
    }

    fn stored_run(history: impl Fn(&dyn Fn(&mut u64, &mut Op)) -> History) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let schedule = Schedule::generate(Seed::new(7), &Profile::calm().with_events(3));
        let text = schedule.to_text();
        let history = history(&|_, op| {
            if let Op::RunStart(start) = op {
                start.schedule_sha256 = sha256_hex(text.as_bytes());
            }
        });
        let judged = Judged::new(schedule, history);
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

    /// Stores a manifest that names the history as it is now, as a forger would.
    fn rename_history(dir: &tempfile::TempDir) {
        let text = std::fs::read_to_string(dir.path().join("history.jsonl")).unwrap();
        change(dir, "manifest.json", |manifest| {
            let mut manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
            manifest["history"]["sha256"] = sha256_hex(text.as_bytes()).into();
            manifest["history"]["lines"] = text.lines().count().into();
            manifest.to_string()
        });
    }

    /// Removes ops from the history and numbers the others again.
    fn remove_ops(dir: &tempfile::TempDir, remove: impl Fn(&Op) -> bool) {
        change(dir, "history.jsonl", |text| {
            let history = History::from_jsonl(&text).unwrap();
            let kept = history.entries().iter().filter(|entry| !remove(&entry.op));
            History::from_ops(kept.map(|entry| (entry.t, entry.op.clone()))).to_jsonl()
        });
    }

    fn is_of_audit(op: &Op) -> bool {
        op.source() == crate::history::op::PG_AUDIT
    }

    #[test]
    fn stored_run_gets_its_stored_verdict() {
        assert_eq!(code(&stored()), 0);
        // One event without a drain: several checkers cannot decide, and that is the stored
        // verdict.
        assert_eq!(code(&stored_with_audit()), Overall::Unknown.exit_code());
    }

    #[test]
    fn history_without_its_last_line_or_half_of_it_is_refused() {
        let dir = stored();
        let without_last = |text: String| {
            let end = text.trim_end().rfind('\n').unwrap();
            text[..=end].to_owned()
        };
        change(&dir, "history.jsonl", without_last);
        assert_eq!(code(&dir), EXIT_ENVIRONMENT);
        change(&dir, "history.jsonl", |text| text[..text.len() - 9].to_owned());
        assert_eq!(code(&dir), EXIT_ENVIRONMENT);
    }

    #[test]
    fn history_with_a_further_line_is_refused() {
        let dir = stored();
        change(&dir, "history.jsonl", |text| {
            let last = text.lines().last().unwrap();
            let lines = text.lines().count();
            let next =
                last.replacen(&format!("\"seq\":{lines}"), &format!("\"seq\":{}", lines + 1), 1);
            format!("{text}{next}\n")
        });
        assert_eq!(code(&dir), EXIT_ENVIRONMENT);
    }

    #[test]
    fn edited_byte_is_refused_in_any_line() {
        for in_last_line in [true, false] {
            let dir = stored();
            change(&dir, "history.jsonl", |text| {
                let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
                let place = if in_last_line { lines.len() - 1 } else { 2 };
                lines[place] = lines[place].replacen("\"t\":", "\"t\": ", 1);
                lines.join("\n") + "\n"
            });
            assert_eq!(code(&dir), EXIT_ENVIRONMENT);
        }
    }

    #[test]
    fn history_without_the_audit_of_the_manifest_is_refused() {
        let dir = stored_with_audit();
        remove_ops(&dir, is_of_audit);
        rename_history(&dir);
        assert_eq!(code(&dir), EXIT_ENVIRONMENT);
        // With a manifest that states no audit, the findings of ten checkers are absent.
        change(&dir, "manifest.json", |text| text.replacen("\"audit\":true", "\"audit\":false", 1));
        assert_eq!(code(&dir), EXIT_OTHER);
    }

    #[test]
    fn edited_audit_flag_is_refused() {
        let (dir, audit) = (stored(), stored_with_audit());
        change(&dir, "manifest.json", |text| {
            text.replacen("\"audit\": false", "\"audit\": true", 1)
        });
        change(&audit, "manifest.json", |text| {
            text.replacen("\"audit\": true", "\"audit\": false", 1)
        });
        assert_eq!([code(&dir), code(&audit)], [EXIT_ENVIRONMENT; 2]);
    }

    #[test]
    fn history_with_a_hash_in_each_line_is_refused() {
        let dir = stored();
        change(&dir, "manifest.json", |text| {
            text.replacen("\"sha256\"", "\"tail\": \"00\",\n    \"sha256\"", 1)
        });
        let error = load(dir.path()).err().unwrap().to_string();
        assert!(error.contains("the harness that recorded it"), "{error}");
    }

    #[test]
    fn other_schedule_missing_file_and_missing_directory_are_refused() {
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
    fn changed_verdict_or_finding_is_a_difference() {
        let dir = stored();
        change(&dir, "checks.json", |text| text.replacen("\"examined\": ", "\"examined\": 9", 1));
        assert_eq!(code(&dir), EXIT_OTHER);
        let dir = stored();
        change(&dir, "manifest.json", |text| {
            text.replacen("\"verdict\": \"pass\"", "\"verdict\": \"unsafe\"", 1)
        });
        assert_eq!(code(&dir), EXIT_OTHER);
    }

    /// Removes the finding of a checker, or adds one that no checker has.
    fn edit_findings(dir: &tempfile::TempDir, edit: impl Fn(&mut Vec<Finding>)) {
        change(dir, "checks.json", |text| {
            let mut findings: Vec<Finding> = serde_json::from_str(&text).unwrap();
            edit(&mut findings);
            serde_json::to_string(&findings).unwrap()
        });
    }

    #[test]
    fn absent_finding_is_a_difference_in_both_directions() {
        let dir = stored();
        edit_findings(&dir, |findings| {
            findings.pop();
        });
        assert_eq!(code(&dir), EXIT_OTHER);
        let dir = stored();
        edit_findings(&dir, |findings| {
            let mut unknown = findings[0].clone();
            unknown.checker = "another".into();
            findings.push(unknown);
        });
        assert_eq!(code(&dir), EXIT_OTHER);
    }
}
