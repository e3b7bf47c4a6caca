//! `delivery-proof.log`: a line an event, the faults with what they hit, the gaps, the verdicts, and
//! what is not proven.

mod faults;

use super::{Context, Judged, TIER, line};
use crate::checker::PLANNED_CHECKERS;
use crate::checker::backoff;
use crate::checker::duplicates;
use crate::checker::no_loss::{Fate, fate};
use crate::history::facts::{EventFacts, Facts};
use crate::history::op::{Phase, Section};

/// What no run of this tier can show.
const NOT_PROVEN: &[&str] = &[
    "loss of power: a kill never empties the page cache, so nothing here proves that fsync works",
    "faults of clocks, and of disks but a full one: this tier has none",
    "order between events: it is not promised",
    "the same interleaving on the next run: the seed repeats the plan, not the machine's timing",
];

pub(super) fn text(judged: &Judged, context: &Context) -> String {
    let facts = Facts::of(&judged.history);
    let mut text = String::new();
    head(&mut text, judged, context);
    events(&mut text, &facts);
    faults::text(&mut text, &facts);
    default_gaps(&mut text, &facts);
    line(&mut text, "\nchecks");
    text.push_str(&judged.checks_text());
    duplicates_by_cause(&mut text, &facts);
    totals(&mut text, judged);
    line(&mut text, "\nnot proven by this run");
    for what in NOT_PROVEN {
        line(&mut text, &format!("  {what}"));
    }
    for what in faults::not_planned(&facts) {
        line(&mut text, &format!("  {what}"));
    }
    line(&mut text, "\nskipped");
    let faults = facts
        .skipped
        .iter()
        .map(|(f, why)| format!("a {f} of the plan: {why}"));
    let skipped = context.skipped.iter().cloned().chain(faults);
    let unasked = PLANNED_CHECKERS.iter();
    let unasked = unasked.filter(|(_, is_exercised)| !is_exercised(&facts));
    let unasked =
        unasked.map(|(checker, _)| format!("checker {}: not exercised by this plan", checker.name));
    let skipped: Vec<String> = skipped.chain(unasked).collect();
    for what in &skipped {
        line(&mut text, &format!("  {what}"));
    }
    if skipped.is_empty() {
        line(&mut text, "  nothing");
    }
    line(&mut text, &format!("\nrepeat: {}", context.repeat));
    line(&mut text, &judged.last_line());
    text
}

fn head(text: &mut String, judged: &Judged, context: &Context) {
    let profile = &judged.schedule.profile;
    let durability: Vec<String> = context
        .durability
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let lines = judged.history.entries().len();
    let rows = [
        ("seed", judged.schedule.seed.to_string()),
        ("git", context.git.clone()),
        (
            "tier",
            format!("{TIER} (real processes, real Postgres, real sockets)"),
        ),
        (
            "profile",
            format!(
                "{}, {} events, {} workers",
                profile.name, profile.events, profile.workers
            ),
        ),
        ("system", context.system.clone()),
        ("postgres", context.postgres.clone()),
        ("durability", durability.join(" ")),
        (
            "history",
            format!(
                "{lines} lines, SHA-256 of the last {}",
                judged.history.tail()
            ),
        ),
    ];
    line(
        text,
        "delivery proof: at least once, deduplicate by event id",
    );
    for (name, value) in rows {
        line(text, &format!("  {name:<11}{value}"));
    }
}

fn events(text: &mut String, facts: &Facts<'_>) {
    line(
        text,
        "\nevents: ordinal, id, accepted at, requests, taken by, state, verdict",
    );
    for (ordinal, event) in &facts.events {
        line(text, &event_line(*ordinal, event, facts));
    }
}

fn event_line(ordinal: u64, event: &EventFacts<'_>, facts: &Facts<'_>) -> String {
    let id = event.id().unwrap_or("-");
    let accepted = event
        .acknowledged
        .first()
        .map_or("-".into(), |at| seconds(at.t));
    let taken: Vec<&str> = event
        .successes()
        .map(|receipt| receipt.begin.op.req.as_str())
        .collect();
    let taken = if taken.is_empty() {
        "-".to_owned()
    } else {
        taken.join("+")
    };
    let state = event.status().unwrap_or("-");
    let verdict = if event.acknowledged.is_empty() {
        if taken == "-" {
            "not accepted"
        } else {
            "recovered"
        }
    } else {
        match fate(event) {
            Fate::Delivered => "delivered",
            Fate::Dead => "DEAD",
            Fate::Late | Fate::Unread => "LATE",
            Fate::Lost => "LOST",
        }
    };
    let causes = duplicates::causes(facts, event);
    let causes: Vec<String> = causes
        .iter()
        .map(|cause| format!(", again: {cause}"))
        .collect();
    let requests = event.receipts.len();
    let causes = causes.concat();
    format!("  {ordinal:>5} {id} {accepted:>9} {requests:>3} {taken} {state} {verdict}{causes}")
}

fn default_gaps(text: &mut String, facts: &Facts<'_>) {
    let events: Vec<_> = facts
        .events
        .iter()
        .filter(|(_, event)| event.section() == Section::Defaults)
        .collect();
    if events.is_empty() {
        return;
    }
    line(
        text,
        "\ngaps at the default settings: base 2 s, doubled, at most a quarter more",
    );
    for (ordinal, event) in events {
        let Some(settings) = facts.settings(event) else {
            continue;
        };
        let gaps = backoff::gaps(event, settings, facts.faults_of(event));
        let gaps: Vec<String> = gaps.iter().map(|gap| seconds(gap.rest_us)).collect();
        let end = if event.successes().next().is_some() {
            ", then taken"
        } else {
            ""
        };
        line(
            text,
            &format!("  event {ordinal}: {}{end}", gaps.join(", ")),
        );
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

fn totals(text: &mut String, judged: &Judged) {
    let facts = Facts::of(&judged.history);
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
    let drain = facts
        .phases
        .get(&Phase::Drain)
        .zip(facts.phases.get(&Phase::FinalReads));
    if let Some(((began, bound), (ended, _))) = drain {
        let bound = bound.map_or("-".into(), seconds);
        let took = seconds(ended.saturating_sub(*began));
        line(text, &format!("  drained in {took}, bound {bound}"));
    }
}

fn seconds(us: u64) -> String {
    format!("{}.{:03} s", us / 1_000_000, us / 1_000 % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::sample::Sample;
    use crate::profile::Profile;
    use crate::schedule::Schedule;
    use crate::seed::Seed;

    #[test]
    fn the_proof_of_a_history_is_pinned() {
        let schedule = Schedule::generate(Seed::new(1), &Profile::calm());
        let judged = Judged::new(schedule, Sample::default().history());
        let context = Context {
            git: "0123abc".into(),
            repeat: "cargo run -p chaos -- run --seed 0x1".into(),
            skipped: vec!["a fault: as a test".into()],
            ..Context::default()
        };
        insta::assert_snapshot!("proof", judged.proof_text(&context));
    }
}
