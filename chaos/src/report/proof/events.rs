//! The part of the proof about single events: one line each, and the gaps at the default settings.

use super::super::text::{line, seconds};
use crate::checker::no_loss::{Fate, fate};
use crate::checker::{backoff, duplicates};
use crate::history::facts::{EventFacts, Facts};
use crate::history::op::Section;

/// Lists all events.
pub(super) fn all(text: &mut String, facts: &Facts<'_>) {
    line(text, "\nevents: ordinal, id, accepted at, requests, accepted by request, state, verdict");
    for (ordinal, event) in &facts.events {
        line(text, &event_line(*ordinal, event, facts));
    }
}

fn event_line(ordinal: u64, event: &EventFacts<'_>, facts: &Facts<'_>) -> String {
    let id = event.id().unwrap_or("-");
    let acknowledged = event.acknowledged.first();
    let accepted = acknowledged.map_or("-".into(), |at| seconds(at.t));
    let successes = event.successes();
    let successes: Vec<&str> = successes.map(|receipt| receipt.begin.op.req.as_str()).collect();
    let verdict = if event.acknowledged.is_empty() {
        if successes.is_empty() { "not accepted" } else { "recovered" }
    } else {
        match fate(event) {
            Fate::Delivered => "delivered",
            Fate::Dead => "DEAD",
            Fate::Late | Fate::Unread => "LATE",
            Fate::Lost => "LOST",
        }
    };
    let successes = if successes.is_empty() { "-".to_owned() } else { successes.join("+") };
    let state = event.status().unwrap_or("-");
    let causes = duplicates::causes(facts, event);
    let causes: Vec<String> = causes.iter().map(|cause| format!(", duplicate: {cause}")).collect();
    let (requests, causes) = (event.receipts.len(), causes.concat());
    format!("  {ordinal:>5} {id} {accepted:>9} {requests:>3} {successes} {state} {verdict}{causes}")
}

/// Lists the gaps between the attempts of the events at the default settings.
pub(super) fn default_gaps(text: &mut String, facts: &Facts<'_>) {
    let events = facts.events.iter();
    let events = events.filter(|(_, event)| event.section() == Section::Defaults);
    let events: Vec<_> = events.collect();
    if events.is_empty() {
        return;
    }
    line(
        text,
        "\ngaps at the default settings: 2 s, doubled after each failure, plus at most a quarter",
    );
    for (ordinal, event) in events {
        let Some(settings) = facts.settings(event) else {
            continue;
        };
        let gaps = backoff::gaps(event, settings, facts.faults_of(event));
        let gaps: Vec<String> = gaps.iter().map(|gap| seconds(gap.rest_us)).collect();
        let end = match event.successes().next() {
            Some(_) => ", then delivered",
            None => "",
        };
        line(text, &format!("  event {ordinal}: {}{end}", gaps.join(", ")));
    }
}
