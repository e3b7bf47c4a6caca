//! `cargo bench -p benches --bench hostile`: memory of the dispatcher over thousands of attempts at
//! hostile receivers, and the time for which each attempt holds its permit.
//!
//! All rounds are equal, so a leak shows as growth from round to round. An event has one attempt,
//! so the end of the event shows when the permit was free: after the settle.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use benches::figures::print_line;
use benches::stand::{self, Stand};
use benches::{backlog, processes};
use mock_receiver::{Behavior, Framing, Journal, Receiver, script};
use tokio::time::interval;

/// Attempts per round, divided equally among the behaviors.
const ROUND: usize = 2_000;
/// The first round fills pools and caches. The eleven rounds after it are compared with it.
const ROUNDS: usize = 12;
/// Timeout of an attempt. The goal for its permit is one second later.
const TIMEOUT_SECONDS: u32 = 2;
const PERMIT_MS_MAX: f64 = (TIMEOUT_SECONDS as f64 + 1.0) * 1_000.0;
/// More than the share of one behavior, so that all its attempts hang concurrently.
const IN_FLIGHT_PER_HOST: usize = 128;
/// Permitted growth after the first round. The allocator keeps the memory of the highest peak so
/// far, which may come in a later round. A leak would grow in each round.
const GROWTH_MIB_MAX: f64 = 16.0;
/// Interval between two memory readings.
const READ_INTERVAL: Duration = Duration::from_millis(20);
/// Maximum time of a round.
const ROUND_MAX: Duration = Duration::from_secs(300);

fn main() -> anyhow::Result<()> {
    tokio::runtime::Runtime::new()?.block_on(measure())
}

/// Every behavior except a regular response, with a name for the table.
fn behaviors() -> Vec<(&'static str, Behavior)> {
    let status = 200;
    let hold_ms = 600_000;
    let endless = |framing| Behavior::EndlessBody { status, framing };
    let drip = Behavior::Drip { status, bytes: 1_000_000, every_ms: 20 };
    let redirect = Behavior::Redirect { status: 307, location: "/webhook".to_owned() };
    let flood = Behavior::HeaderFlood { status, bytes: 1 << 20 };
    vec![
        ("drip", drip),
        ("hang before the head", Behavior::Hang { hold_ms }),
        ("hang after the head", Behavior::HangAfterHead { status, hold_ms }),
        ("endless, chunked", endless(Framing::Chunked)),
        ("endless, until close", endless(Framing::UntilClose)),
        ("gzip bomb", Behavior::GzipBomb { status }),
        ("header flood", flood),
        ("garbage", Behavior::Garbage),
        ("bad chunking", Behavior::BadChunking { status }),
        ("half a head", Behavior::PartialHead),
        ("wrong length", Behavior::TruncatedBody { status }),
        ("reset in the body", Behavior::ResetMidBody { status }),
        ("reset before the head", Behavior::ResetBeforeAnswer { after_ms: 0 }),
        ("close before the head", Behavior::CloseBeforeAnswer { after_ms: 0 }),
        ("200, then reset", Behavior::ResetAfterAnswer { status, hold_ms: 0 }),
        ("redirect to itself", redirect),
    ]
}

async fn measure() -> anyhow::Result<()> {
    let postgres = stand::postgres().await?;
    print_line(&format!("Postgres: {}", postgres.origin()));
    let (timeout, per_host) = (TIMEOUT_SECONDS.to_string(), IN_FLIGHT_PER_HOST.to_string());
    let settings = [
        ("LOG", "error"),
        ("HTTP_TIMEOUT", &*timeout),
        ("MAX_IN_FLIGHT_PER_HOST", &*per_host),
        ("MAX_ATTEMPTS", "1"),
    ];
    let stand = Stand::start(&postgres, &settings).await?;
    let mut hosts = Vec::new();
    for (name, behavior) in behaviors() {
        let script = script::always(behavior);
        let receiver = stand::receivers(1, &script, &Journal::disabled()).await?;
        hosts.extend(receiver.into_iter().map(|receiver| (name, receiver)));
    }
    let before = Reading::of(&stand);
    print_line(&format!("before: {before}"));
    let mut readings = Vec::new();
    for round in 1..=ROUNDS {
        let reading = run_round(&stand, &hosts, round).await?;
        print_line(&format!("after {:>6} attempts: {reading}", round * ROUND));
        readings.push(reading);
    }
    print_growth(&readings);
    print_attempts(&stand, &hosts).await
}

/// Memory and descriptors of the dispatcher, at the end of a round and at its peak.
struct Reading {
    rest_mib: f64,
    peak_mib: f64,
    descriptors: usize,
    descriptors_max: usize,
}

impl Reading {
    fn of(stand: &Stand) -> Self {
        let (rss, descriptors) =
            (processes::rss_mib(stand.pid()), processes::descriptors(stand.pid()));
        Self { rest_mib: rss, peak_mib: rss, descriptors, descriptors_max: descriptors }
    }
}

impl std::fmt::Display for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "RSS {:.1} MiB (peak {:.1}), {} descriptors (peak {})",
            self.rest_mib, self.peak_mib, self.descriptors, self.descriptors_max
        )
    }
}

/// Runs one round. All its events are due immediately.
async fn run_round(
    stand: &Stand,
    hosts: &[(&str, Receiver)],
    round: usize,
) -> anyhow::Result<Reading> {
    let share = ROUND / hosts.len();
    for (_, receiver) in hosts {
        let numbers = round * share..(round + 1) * share;
        backlog::fill(&stand.pool, &stand::url(receiver), numbers).await?;
    }
    let (mut peak_mib, mut descriptors_max) = (0.0, 0);
    let mut ticks = interval(READ_INTERVAL);
    let mut ended = pin!(stand.all_ended(ROUND_MAX));
    loop {
        tokio::select! {
            biased;
            ended = ended.as_mut() => break ended?,
            _ = ticks.tick() => {
                let now = Reading::of(stand);
                peak_mib = now.rest_mib.max(peak_mib);
                descriptors_max = now.descriptors.max(descriptors_max);
            }
        }
    }
    let rest = Reading::of(stand);
    Ok(Reading { peak_mib: rest.peak_mib.max(peak_mib), descriptors_max, ..rest })
}

fn print_growth(readings: &[Reading]) {
    let growth = |of: fn(&Reading) -> f64| {
        let later = readings[1..].iter().map(of).fold(f64::MIN, f64::max);
        later - of(&readings[0])
    };
    let (rest, peak) = (growth(|reading| reading.rest_mib), growth(|reading| reading.peak_mib));
    let verdict = if rest.max(peak) <= GROWTH_MIB_MAX { "flat" } else { "NOT flat" };
    print_line(&format!(
        "the {} attempts after the first {ROUND} added at most {rest:.1} MiB after a round and \
         {peak:.1} MiB at a peak: {verdict} (limit {GROWTH_MIB_MAX} MiB)",
        (ROUNDS - 1) * ROUND
    ));
}

// The settle writes `finished_at`. The permit is free when its reply arrives.
const ATTEMPTS: &str = "
select split_part(e.target_url, '/', 3), a.outcome, count(*), max(a.duration_ms)::float8,
    max(extract(epoch from e.finished_at - a.started_at) * 1000)::float8
from delivery_attempts a join webhook_events e on e.id = a.event_id
group by 1, 2 order by 3 desc";

async fn print_attempts(stand: &Stand, hosts: &[(&str, Receiver)]) -> anyhow::Result<()> {
    let rows: Vec<(String, String, i64, f64, f64)> =
        sqlx::query_as(ATTEMPTS).fetch_all(&stand.pool).await?;
    let mut by_host = BTreeMap::<String, Vec<_>>::new();
    let mut longest_ms = 0.0_f64;
    for (host, outcome, count, attempt_ms, settled_ms) in rows {
        longest_ms = longest_ms.max(settled_ms);
        let line = (format!("{outcome} {count}"), attempt_ms, settled_ms);
        by_host.entry(host).or_default().push(line);
    }
    print_line(
        "\nreceiver                outcomes                                  longest ms   until settled",
    );
    for (name, receiver) in hosts {
        let lines = by_host.remove(&receiver.address().to_string());
        let lines = lines.unwrap_or_default();
        let outcomes: Vec<_> = lines.iter().map(|(outcome, ..)| &**outcome).collect();
        let most = |of: fn(&(String, f64, f64)) -> f64| lines.iter().map(of).fold(0.0, f64::max);
        print_line(&format!(
            "{name:<23} {:<41} {:>10.0} {:>15.0}",
            outcomes.join(", "),
            most(|line| line.1),
            most(|line| line.2)
        ));
    }
    print_line(&format!(
        "\nlongest from an attempt's beginning to its settle: {longest_ms:.0} ms; goal {PERMIT_MS_MAX:.0} ms \
         (HTTP_TIMEOUT {TIMEOUT_SECONDS} s, and 1 s)"
    ));
    Ok(())
}
