//! `cargo bench -p benches --bench outage`: stops Postgres for two minutes, four times the lease,
//! under a constant load.
//!
//! Receivers respond after one second, so the attempts of one second are in flight when the server
//! stops, and their responses arrive during the outage. Only `MAX_ATTEMPTS` differs from its
//! default: it is 1, so a wasted attempt would make its event dead.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use benches::figures::print_line;
use benches::stand::{self, Stand};
use benches::steady::{Posted, Steady};
use chaos::postgres::{OwnParts, OwnServer, Wanted};
use chrono::{DateTime, Utc};
use mock_receiver::{Behavior, Journal, Receipt, script};
use tokio::time::sleep;

/// Length of the outage.
const OUTAGE: Duration = Duration::from_secs(120);
/// Length of the load before the outage.
const BEFORE: Duration = Duration::from_secs(20);
/// Length of the load after the outage.
const AFTER: Duration = Duration::from_secs(30);
/// 32 clients with a post per 160 ms send 200 posts per second, if responses take less time.
const CLIENTS: u32 = 32;
const POST_INTERVAL: Duration = Duration::from_millis(160);
const RECEIVERS: usize = 8;
const RESPONSE_AFTER_MS: u64 = 1_000;
/// Window of a rate in microseconds.
const WINDOW_US: u64 = 1_000_000;
/// Share of the earlier rate that counts as recovered. The goal is 5 s after the return of the
/// server.
const RECOVERED_SHARE: f64 = 0.9;
/// Seconds after the return for which the rate is printed.
const PRINTED_SECONDS: u64 = 10;
/// Maximum time until all events are final.
const DRAIN_MAX: Duration = Duration::from_secs(300);

fn main() -> anyhow::Result<()> {
    tokio::runtime::Runtime::new()?.block_on(measure())
}

/// Times of the stop and the return of the server, on the clock of the journal.
#[derive(Clone, Copy)]
struct Outage {
    down_us: u64,
    up_us: u64,
    /// The return on the clock of the rows. The server runs on this machine and has the same clock.
    up: DateTime<Utc>,
}

async fn measure() -> anyhow::Result<()> {
    let mut own = OwnServer::start(&Wanted::Any, OwnParts::default()).await?;
    print_line(&format!("Postgres: {}", own.postgres().origin()));
    let stand = Stand::start(own.postgres(), &[("MAX_ATTEMPTS", "1")]).await?;
    let journal = Journal::new();
    let response = Behavior::Answer { status: 200, retry_after: None, after_ms: RESPONSE_AFTER_MS };
    let receivers = stand::receivers(RECEIVERS, &script::always(response), &journal).await?;
    let targets = receivers.iter().map(stand::url).collect();
    let load = Steady::start(stand.address(), targets, journal.clone(), CLIENTS, POST_INTERVAL);
    sleep(BEFORE).await;

    own.stop_at_once().await?;
    let (down_us, lines) = (journal.now_us(), log_lines(&stand)?.len());
    sleep(OUTAGE).await;
    let new_lines = log_lines(&stand)?.split_off(lines);
    own.bring_up().await?;
    let outage = Outage { down_us, up_us: journal.now_us(), up: Utc::now() };
    sleep(AFTER).await;
    let posted = load.stop().await?;
    stand.all_ended(DRAIN_MAX).await?;

    let receipts = journal.receipts();
    print_responses(&posted, outage);
    print_line(&format!("log lines during the outage: {}", new_lines.len()));
    new_lines.iter().for_each(|line| print_line(&format!("    {line}")));
    print_events(&posted, &receipts);
    print_attempts(&stand, &receipts, outage).await?;
    print_rates(&receipts, outage);
    Ok(())
}

/// Lines of the dispatcher log so far.
fn log_lines(stand: &Stand) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(stand.log())?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn print_responses(posted: &[Posted], outage: Outage) {
    let phases = [
        ("before", 0..outage.down_us),
        ("during the outage", outage.down_us..outage.up_us),
        ("after", outage.up_us..u64::MAX),
    ];
    for (name, phase) in phases {
        let posts = posted.iter().filter(|post| phase.contains(&post.begun_us));
        let mut responses = BTreeMap::<_, u64>::new();
        let mut slowest = Duration::ZERO;
        for post in posts {
            let status = post.status.map_or("no response".to_owned(), |status| status.to_string());
            *responses.entry(status).or_default() += 1;
            slowest = slowest.max(post.took);
        }
        print_line(&format!(
            "posts {name}: {responses:?}, slowest response {} ms",
            slowest.as_millis()
        ));
    }
}

/// Compares accepted events with the receipts.
fn print_events(posted: &[Posted], receipts: &[Receipt]) {
    let received = receipts.iter().filter(|receipt| receipt.is_accepted());
    let received: BTreeSet<_> = received.filter_map(|receipt| receipt.ordinal).collect();
    let (accepted, others): (Vec<&Posted>, Vec<&Posted>) =
        posted.iter().partition(|post| post.status == Some(202));
    let lost = accepted.iter().filter(|post| !received.contains(&post.number));
    let unacknowledged = others.iter().filter(|post| received.contains(&post.number));
    let events: BTreeSet<_> = receipts.iter().map(|receipt| receipt.ordinal).collect();
    print_line(&format!(
        "events: {} accepted, {} of them lost; {} more delivered without a 202; {} duplicates",
        accepted.len(),
        lost.count(),
        unacknowledged.count(),
        receipts.len() - events.len()
    ));
}

const ABANDONED: &str = "
select event_id::text, number from delivery_attempts where outcome = 'abandoned'";

const FAILURES: &str = "
select coalesce(sum(failure_count), 0), count(*) filter (where status <> 'delivered') from webhook_events";

const FINISHED: &str =
    "select id::text, finished_at from webhook_events where finished_at is not null";

async fn print_attempts(stand: &Stand, receipts: &[Receipt], outage: Outage) -> anyhow::Result<()> {
    let abandoned: Vec<(String, i32)> = sqlx::query_as(ABANDONED).fetch_all(&stand.pool).await?;
    let sent: BTreeSet<_> = receipts
        .iter()
        .filter_map(|receipt| {
            let number = i32::try_from(receipt.attempt?).ok()?;
            Some((receipt.webhook_id.clone()?, number))
        })
        .collect();
    let also_sent = abandoned.iter().filter(|attempt| sent.contains(attempt));
    let (failures, undelivered): (i64, i64) =
        sqlx::query_as(FAILURES).fetch_one(&stand.pool).await?;
    print_line(&format!(
        "attempts: {} abandoned, {} of them sent (the others are claims whose reply was lost); \
         failures {failures}; {undelivered} events not delivered",
        abandoned.len(),
        also_sent.count(),
    ));
    let finished: BTreeMap<String, DateTime<Utc>> =
        sqlx::query_as(FINISHED).fetch_all(&stand.pool).await?.into_iter().collect();
    let during = receipts.iter().filter(|receipt| {
        receipt.begin_us < outage.down_us && receipt.end_us.is_some_and(|end| end > outage.down_us)
    });
    let settled: Vec<_> =
        during.filter_map(|receipt| finished.get(receipt.webhook_id.as_ref()?)).collect();
    let last = settled.iter().max().map(|last| **last - outage.up);
    print_line(&format!(
        "results during the outage: {}, the last settled {} ms after the return",
        settled.len(),
        last.map_or(0, |last| last.num_milliseconds())
    ));
    Ok(())
}

fn print_rates(receipts: &[Receipt], outage: Outage) {
    let begins: Vec<u64> = receipts.iter().map(|receipt| receipt.begin_us).collect();
    let between =
        |from: u64, until: u64| begins.iter().filter(|at| (from..until).contains(at)).count();
    // The first seconds of the load are not measured.
    let measured_us = u64::try_from(BEFORE.as_micros() / 2).expect("seconds fit into a u64");
    let before = between(outage.down_us - measured_us, outage.down_us) as f64;
    let before = before / (measured_us as f64 / WINDOW_US as f64);
    let ends = (0..AFTER.as_millis() as u64).step_by(10).map(|ms| outage.up_us + ms * 1_000);
    let recovered = ends
        .filter(|end| *end >= outage.up_us + WINDOW_US)
        .find(|end| between(end - WINDOW_US, *end) as f64 >= RECOVERED_SHARE * before);
    let by_second = (0..PRINTED_SECONDS).map(|second| {
        let from = outage.up_us + second * WINDOW_US;
        between(from, from + WINDOW_US)
    });
    print_line(&format!(
        "deliveries per second: {before:.0} before the outage; by second after the return: {:?}; the \
         first second with {RECOVERED_SHARE} of the earlier rate ended {} after the return (goal 5 s)",
        by_second.collect::<Vec<_>>(),
        recovered.map_or("never".to_owned(), |end| format!(
            "{:.1} s",
            (end - outage.up_us) as f64 / 1e6
        ))
    ));
    let first = begins.iter().filter(|at| **at >= outage.up_us).min();
    if let Some(first) = first {
        print_line(&format!(
            "first request: {} ms after the return",
            (first - outage.up_us) / 1_000
        ));
    }
}
