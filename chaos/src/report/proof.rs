//! `delivery-proof.log`: the proof of a run for a person.
//!
//! It opens with the verdict, the totals and everything that the run does not prove. The checks,
//! the faults and one line per event follow.

mod events;
mod faults;
mod not_proven;

use super::context::{Context, TIER};
use super::judged::Judged;
use super::text::{line, seconds};
use crate::checker::duplicates;
use crate::history::facts::Facts;
use crate::history::op::Phase;

pub(super) fn text(judged: &Judged, context: &Context) -> String {
    let facts = Facts::of(&judged.history);
    let mut text = String::new();
    line(&mut text, "delivery proof: at least once, receivers deduplicate by event id");
    line(&mut text, &judged.last_line());
    totals(&mut text, judged, &facts);
    line(&mut text, "\nnot proven by this run");
    for sentence in not_proven::sentences(judged, context, &facts) {
        line(&mut text, &format!("  {sentence}"));
    }
    run(&mut text, judged, context);
    line(&mut text, "\nchecks");
    text.push_str(&judged.checks_text());
    duplicates_by_cause(&mut text, &facts);
    faults::text(&mut text, &facts);
    events::default_gaps(&mut text, &facts);
    events::all(&mut text, &facts);
    line(&mut text, &format!("\nrepeat: {}", context.repeat));
    line(&mut text, &judged.last_line());
    text
}

fn totals(text: &mut String, judged: &Judged, facts: &Facts<'_>) {
    let totals = judged.totals;
    let rows = [
        ("posted", totals.posted),
        ("accepted", totals.accepted),
        ("delivered", totals.delivered),
        ("dead", totals.dead),
        ("late", totals.late),
        ("lost", totals.lost),
        ("recovered", totals.recovered),
        ("unknown", totals.unknown),
        ("duplicates", totals.duplicates),
        ("requests", totals.requests),
        ("kills in flight", totals.kills),
    ];
    line(text, "\ntotals");
    for (name, count) in rows {
        line(text, &format!("  {name:<16}{count:>7}"));
    }
    let drain = facts.phases.get(&Phase::Drain);
    let final_reads = facts.phases.get(&Phase::FinalReads);
    if let Some(((began, bound), (ended, _))) = drain.zip(final_reads) {
        let bound = bound.map_or("-".into(), seconds);
        let duration = seconds(ended.saturating_sub(*began));
        line(text, &format!("  drained in {duration}, bound {bound}"));
    }
}

fn run(text: &mut String, judged: &Judged, context: &Context) {
    let profile = &judged.schedule.profile;
    let durability = context.durability.iter();
    let durability: Vec<String> =
        durability.map(|(name, value)| format!("{name}={value}")).collect();
    let audit = context.audit_missing.as_deref();
    let audit = audit.map_or("present".to_owned(), |why| format!("none: {why}"));
    let (lines, hash) = (judged.history.entries().len(), judged.history.sha256());
    let rows = [
        ("seed", judged.schedule.seed.to_string()),
        ("git", context.git.clone()),
        ("tier", format!("{TIER} (real processes, real Postgres, real sockets)")),
        (
            "profile",
            format!("{}, {} events, {} workers", profile.name, profile.events, profile.workers),
        ),
        ("system", context.system.clone()),
        ("postgres", context.postgres.clone()),
        ("durability", durability.join(" ")),
        ("audit", audit),
        ("history", format!("{lines} lines, SHA-256 {hash}")),
    ];
    line(text, "\nrun");
    for (name, value) in rows {
        line(text, &format!("  {name:<11}{value}"));
    }
}

fn duplicates_by_cause(text: &mut String, facts: &Facts<'_>) {
    line(text, "\nduplicates by cause");
    let causes = duplicates::by_cause(facts);
    for (cause, count) in &causes {
        line(text, &format!("  {count:>5} {cause}"));
    }
    if causes.is_empty() {
        line(text, "  none");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::story::Story;
    use crate::fault::Target;
    use crate::history::op::{FaultSkip, Op};
    use crate::nemesis::Schedule;
    use crate::nemesis::{PauseWorker, Reset};
    use crate::profile::Profile;
    use crate::seed::Seed;

    /// Replaces each SHA-256, because any change of the history's format changes it.
    fn without_hashes(text: &str) -> String {
        fn mask(word: &str) -> &str {
            let is_hash = word.len() == 64 && word.chars().all(|c| c.is_ascii_hexdigit());
            if is_hash { "SHA256" } else { word }
        }
        let line = |line: &str| line.split(' ').map(mask).collect::<Vec<&str>>().join(" ");
        text.lines().map(line).collect::<Vec<String>>().join("\n")
    }

    #[test]
    fn proof_opens_with_verdict_totals_and_unproven_parts() {
        let schedule = Schedule::generate(Seed::new(1), &Profile::calm());
        let skip = FaultSkip { f: Reset::KIND.name.into(), why: "as a test".into() };
        let story = Story::of_four_events().with(1, Op::FaultSkip(skip)).with_fault(
            PauseWorker::KIND,
            Target::Worker(1),
            2..3,
        );
        let judged = Judged::new(schedule, story.history());
        let context = Context {
            git: "0123abc".into(),
            repeat: "cargo run -p chaos -- run --seed 0x1".into(),
            skipped: vec!["SIGKILL of a worker container: as a test".into()],
            audit_missing: Some("as a test".into()),
            ..Context::default()
        };
        let text = without_hashes(&judged.proof_text(&context));
        insta::assert_snapshot!("proof", text);
    }
}
