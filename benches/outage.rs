//! Postgres is stopped for two minutes, four times the lease, under a load that goes on: `cargo bench -p benches --bench outage`.
//!
//! Receivers take a second to answer, so a second's worth of attempts is under way when the server goes, and all of those
//! answers come while it is away. All settings but `MAX_ATTEMPTS` are at their defaults; one attempt that was burnt would be an
//! event that is dead.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::time::Duration;

use benches::stand::{self, Stand};
use benches::steady::{Posted, Steady};
use chaos::postgres::{OwnServer, Wanted};
use chrono::{DateTime, Utc};
use mock_receiver::{Behavior, Journal, Receipt, script};
use tokio::time::sleep;

/// How long the server is away.
const AWAY: Duration = Duration::from_secs(120);
/// How long the load runs before and after.
const BEFORE: Duration = Duration::from_secs(20);
const AFTER: Duration = Duration::from_secs(30);
/// 200 posts a second, as long as they are answered within that time.
const CLIENTS: u32 = 32;
const POST_EVERY: Duration = Duration::from_millis(160);
const RECEIVERS: usize = 8;
const ANSWER_AFTER_MS: u64 = 1_000;
/// Rates are counted over so long, in microseconds.
const WINDOW_US: u64 = 1_000_000;
/// The deliveries are back when so much of the rate before is reached; goal: 5 s after the server's return.
const BACK: f64 = 0.9;
/// The rate after the return is told for so many seconds.
const TOLD_SECONDS: u64 = 10;
/// How long the rest may take to be delivered.
const WITHIN: Duration = Duration::from_secs(300);

fn main() -> anyhow::Result<()> {
    tokio::runtime::Runtime::new()?.block_on(measure())
}

fn say(line: &str) {
    // Nobody to tell is no reason to stop.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// When the server went and was back, on the journal's clock.
#[derive(Clone, Copy)]
struct Outage {
    down_us: u64,
    up_us: u64,
    /// The same moment on the clock of the rows: the server has this machine's.
    up: DateTime<Utc>,
}

async fn measure() -> anyhow::Result<()> {
    let mut own = OwnServer::start(&Wanted::Any, false).await?;
    say(&format!("Postgres: {}", own.postgres().origin()));
    let stand = Stand::start(own.postgres(), &[("MAX_ATTEMPTS", "1")]).await?;
    let journal = Journal::new();
    let answer = Behavior::Answer {
        status: 200,
        retry_after: None,
        after_ms: ANSWER_AFTER_MS,
    };
    let receivers = stand::receivers(RECEIVERS, &script::always(answer), &journal).await?;
    let targets = receivers.iter().map(stand::url).collect();
    let load = Steady::start(
        stand.address(),
        targets,
        journal.clone(),
        CLIENTS,
        POST_EVERY,
    );
    sleep(BEFORE).await;

    own.stop_at_once().await?;
    let (down_us, lines) = (journal.now_us(), log_lines(&stand)?.len());
    sleep(AWAY).await;
    let told = log_lines(&stand)?.split_off(lines);
    own.bring_up().await?;
    let outage = Outage {
        down_us,
        up_us: journal.now_us(),
        up: Utc::now(),
    };
    sleep(AFTER).await;
    let posted = load.stop().await?;
    stand.all_ended(WITHIN).await?;

    let receipts = journal.receipts();
    tell_answers(&posted, outage);
    say(&format!("log lines while it was away: {}", told.len()));
    told.iter().for_each(|line| say(&format!("    {line}")));
    tell_events(&posted, &receipts);
    tell_attempts(&stand, &receipts, outage).await?;
    tell_rates(&receipts, outage);
    Ok(())
}

/// The lines of the dispatcher's log so far.
fn log_lines(stand: &Stand) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(stand.log())?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn tell_answers(posted: &[Posted], outage: Outage) {
    let phases = [
        ("before", 0..outage.down_us),
        ("while it was away", outage.down_us..outage.up_us),
        ("after", outage.up_us..u64::MAX),
    ];
    for (name, phase) in phases {
        let posts = posted.iter().filter(|post| phase.contains(&post.begun_us));
        let mut answers = BTreeMap::<_, u64>::new();
        let mut slowest = Duration::ZERO;
        for post in posts {
            let status = post
                .status
                .map_or("no answer".to_owned(), |status| status.to_string());
            *answers.entry(status).or_default() += 1;
            slowest = slowest.max(post.took);
        }
        say(&format!(
            "posts {name}: {answers:?}, slowest answer {} ms",
            slowest.as_millis()
        ));
    }
}

/// What became of what was accepted, as the receivers saw it.
fn tell_events(posted: &[Posted], receipts: &[Receipt]) {
    let taken = receipts.iter().filter(|receipt| receipt.is_accepted());
    let taken: BTreeSet<_> = taken.filter_map(|receipt| receipt.ordinal).collect();
    let (accepted, others): (Vec<&Posted>, Vec<&Posted>) =
        posted.iter().partition(|post| post.status == Some(202));
    let lost = accepted.iter().filter(|post| !taken.contains(&post.number));
    let unsure = others.iter().filter(|post| taken.contains(&post.number));
    let events: BTreeSet<_> = receipts.iter().map(|receipt| receipt.ordinal).collect();
    say(&format!(
        "events: {} accepted, {} of them lost; {} more delivered although their post was not answered 202; \
         {} duplicates",
        accepted.len(),
        lost.count(),
        unsure.count(),
        receipts.len() - events.len()
    ));
}

const ABANDONED: &str = "
select event_id::text, number from delivery_attempts where outcome = 'abandoned'";

const BURNT: &str = "
select coalesce(sum(failure_count), 0), count(*) filter (where status <> 'delivered') from webhook_events";

const FINISHED: &str =
    "select id::text, finished_at from webhook_events where finished_at is not null";

async fn tell_attempts(stand: &Stand, receipts: &[Receipt], outage: Outage) -> anyhow::Result<()> {
    let abandoned: Vec<(String, i32)> = sqlx::query_as(ABANDONED).fetch_all(&stand.pool).await?;
    let sent: BTreeSet<_> = receipts
        .iter()
        .filter_map(|receipt| {
            let number = i32::try_from(receipt.attempt?).ok()?;
            Some((receipt.webhook_id.clone()?, number))
        })
        .collect();
    let sent_too = abandoned.iter().filter(|attempt| sent.contains(attempt));
    let (burnt, undelivered): (i64, i64) = sqlx::query_as(BURNT).fetch_one(&stand.pool).await?;
    say(&format!(
        "attempts: {} abandoned, {} of them with a result in hand (the others are claims whose reply was lost); \
         failure_count burnt {burnt}; {undelivered} events not delivered",
        abandoned.len(),
        sent_too.count(),
    ));
    let finished: BTreeMap<String, DateTime<Utc>> = sqlx::query_as(FINISHED)
        .fetch_all(&stand.pool)
        .await?
        .into_iter()
        .collect();
    let in_hand = receipts.iter().filter(|receipt| {
        receipt.begin_us < outage.down_us && receipt.end_us.is_some_and(|end| end > outage.down_us)
    });
    let settled: Vec<_> = in_hand
        .filter_map(|receipt| finished.get(receipt.webhook_id.as_ref()?))
        .collect();
    let last = settled.iter().max().map(|last| **last - outage.up);
    say(&format!(
        "results that came while it was away: {}, the last settled {} ms after its return",
        settled.len(),
        last.map_or(0, |last| last.num_milliseconds())
    ));
    Ok(())
}

fn tell_rates(receipts: &[Receipt], outage: Outage) {
    let begins: Vec<u64> = receipts.iter().map(|receipt| receipt.begin_us).collect();
    let between = |from: u64, until: u64| {
        begins
            .iter()
            .filter(|at| (from..until).contains(at))
            .count()
    };
    // The first seconds of the load are left out.
    let measured_us = u64::try_from(BEFORE.as_micros() / 2).expect("seconds");
    let before = between(outage.down_us - measured_us, outage.down_us) as f64;
    let before = before / (measured_us as f64 / WINDOW_US as f64);
    let ends = (0..AFTER.as_millis() as u64)
        .step_by(10)
        .map(|ms| outage.up_us + ms * 1_000);
    let back = ends
        .filter(|end| *end >= outage.up_us + WINDOW_US)
        .find(|end| between(end - WINDOW_US, *end) as f64 >= BACK * before);
    let by_second = (0..TOLD_SECONDS).map(|second| {
        let from = outage.up_us + second * WINDOW_US;
        between(from, from + WINDOW_US)
    });
    say(&format!(
        "deliveries a second: {before:.0} before; by second since its return: {:?}; the first second with {BACK} of the rate \
         before ended {} after its return (goal 5 s)",
        by_second.collect::<Vec<_>>(),
        back.map_or("never".to_owned(), |end| format!(
            "{:.1} s",
            (end - outage.up_us) as f64 / 1e6
        ))
    ));
    let first = begins.iter().filter(|at| **at >= outage.up_us).min();
    if let Some(first) = first {
        say(&format!(
            "first request after its return: {} ms",
            (first - outage.up_us) / 1_000
        ));
    }
}
