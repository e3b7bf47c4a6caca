//! `cargo bench -p benches --bench isolation -- [backlog|recovery]`: healthy targets beside a
//! hanging target with a deep backlog, and a SIGKILL with ten thousand attempts in flight. Takes
//! minutes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use benches::figures::print_line;
use benches::load::Client;
use benches::stand::{self, Stand};
use benches::{backlog, processes};
use chaos::postgres::Postgres;
use mock_receiver::{Behavior, Journal, Receipt, Script, Seen, script};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

/// Healthy targets beside the hanging one, each with a separate port.
const HEALTHY: usize = 99;
/// Due events of the hanging target.
const BACKLOG: usize = 50_000;
/// Interval between two posts for healthy targets.
const POST_INTERVAL: Duration = Duration::from_millis(5);
/// Time after the start of a backlog that is not measured.
const WARM_UP: Duration = Duration::from_secs(5);
/// Measured time without a backlog.
const CALM: Duration = Duration::from_secs(30);
/// Measured time with a backlog. For a minute its events are delayed, then they become due again.
const STORM: Duration = Duration::from_secs(75);
/// Number of measurements of each.
const ROUNDS: usize = 3;

/// Attempts in flight at the kill.
const IN_FLIGHT: usize = 10_000;
/// Attempts in flight for comparison.
const FEW: usize = 10;
/// Time that an attempt hangs, longer than the benchmark.
const HANG_MS: u64 = 600_000;
/// Maximum wait for any state.
const WAIT_MAX: Duration = Duration::from_secs(120);

fn main() -> anyhow::Result<()> {
    let wanted = |part: &str| {
        let mut parts = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).peekable();
        parts.peek().is_none() || parts.any(|arg| arg == part)
    };
    tokio::runtime::Runtime::new()?.block_on(async {
        let postgres = stand::postgres().await?;
        print_line(&format!("Postgres: {}", postgres.origin()));
        if wanted("backlog") {
            hanging_backlog(&postgres).await?;
        }
        if wanted("recovery") {
            recovery(&postgres).await?;
        }
        anyhow::Ok(())
    })
}

/// Measures healthy targets alternately with and without a hanging one. The speed of a shared
/// machine changes from minute to minute, so the spread over the rounds shows how certain a ratio
/// is.
async fn hanging_backlog(postgres: &Postgres) -> anyhow::Result<()> {
    let stand = Stand::start(postgres, &[("LOG", "warn")]).await?;
    let journal = Journal::new();
    let healthy =
        stand::receivers(HEALTHY, &script::always(Behavior::answer(200)), &journal).await?;
    let targets: Vec<_> = healthy.iter().map(stand::url).collect();
    let mut client = Client::connect(stand.address()).await?;
    let mut phase = Phase { journal, first: 0 };
    let mut ratios = Vec::new();
    for round in 1..=ROUNDS {
        phase.post(&mut client, &targets, WARM_UP).await?;
        let (without, own) = phase.post_with_cost(&stand, &mut client, &targets, CALM).await?;
        print_line(&format!("round {round}, without a backlog: {without}; {own}"));
        // A new target in each round, because the dispatcher remembers that the last one was slow.
        let hang = Behavior::Hang { hold_ms: HANG_MS };
        let hanging = stand::receivers(1, &script::always(hang), &Journal::disabled()).await?;
        backlog::fill(&stand.pool, &stand::url(&hanging[0]), 0..BACKLOG).await?;
        phase.post(&mut client, &targets, WARM_UP).await?;
        let (with, cost) = phase.post_with_cost(&stand, &mut client, &targets, STORM).await?;
        let ratio = with.p99_ms / without.p99_ms;
        print_line(&format!(
            "round {round}, {BACKLOG} due events of a hanging target: {with}; {cost}; p99 x {ratio:.2}"
        ));
        ratios.push(ratio);
        delete_backlog(&stand).await?;
    }
    ratios.sort_by(f64::total_cmp);
    print_line(&format!("p99 with a backlog divided by p99 without: {ratios:.2?}, goal 2"));
    Ok(())
}

/// Deletes the backlog and waits until no attempt is in flight.
async fn delete_backlog(stand: &Stand) -> anyhow::Result<()> {
    sqlx::query("delete from webhook_events where status = 'pending'").execute(&stand.pool).await?;
    sqlx::query("vacuum analyze webhook_events").execute(&stand.pool).await?;
    let deadline = Instant::now() + WAIT_MAX;
    while stand.metric("webhook_attempts_in_flight").await? > 0.0 {
        anyhow::ensure!(Instant::now() < deadline, "attempts are still in flight");
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Posts at a constant rate and measures the time from post to receipt.
struct Phase {
    journal: Journal,
    first: u64,
}

struct Latency {
    events: usize,
    p50_ms: f64,
    p95_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

impl std::fmt::Display for Latency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} events of healthy targets, post to receipt p50 {:.1} ms, p95 {:.1}, p99 {:.1}, max {:.1}",
            self.events, self.p50_ms, self.p95_ms, self.p99_ms, self.max_ms
        )
    }
}

impl Phase {
    /// Posts, and returns the latency with the CPU use of dispatcher and Postgres.
    async fn post_with_cost(
        &mut self,
        stand: &Stand,
        client: &mut Client,
        targets: &[String],
        during: Duration,
    ) -> anyhow::Result<(Latency, String)> {
        const DEFERRALS: &str = "webhook_deferrals_total";
        let (before, spent) = (stand.metric(DEFERRALS).await?, stand.spent());
        let latency = self.post(client, targets, during).await?;
        let seconds = during.as_secs_f64();
        let (dispatcher, server) = stand.spent().since(spent);
        let cost = format!(
            "{:.0} releases per second, CPU {:.1} % dispatcher, {:.1} % Postgres",
            (stand.metric(DEFERRALS).await? - before) / seconds,
            100.0 * dispatcher.as_secs_f64() / seconds,
            100.0 * server.as_secs_f64() / seconds,
        );
        Ok((latency, cost))
    }

    async fn post(
        &mut self,
        client: &mut Client,
        targets: &[String],
        during: Duration,
    ) -> anyhow::Result<Latency> {
        let mut ticks = interval(POST_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let until = Instant::now() + during;
        let first = self.first;
        let mut posted = BTreeMap::new();
        while Instant::now() < until {
            ticks.tick().await;
            let target = &targets[usize::try_from(self.first)? % targets.len()];
            posted.insert(self.first, self.journal.now_us());
            client.post(&format!("{target}/{}", self.first)).await?;
            self.first += 1;
        }
        let mut changed = self.journal.changed();
        let mut waits = BTreeMap::new();
        loop {
            for receipt in self.journal.receipts() {
                if let Some(ordinal) = receipt.ordinal.filter(|ordinal| *ordinal >= first) {
                    let wait = receipt.begin_us.saturating_sub(posted[&ordinal]);
                    waits.entry(ordinal).or_insert(wait);
                }
            }
            if waits.len() == posted.len() {
                break;
            }
            timeout(WAIT_MAX, changed.changed()).await??;
        }
        Ok(Latency::of(waits.into_values().collect()))
    }
}

impl Latency {
    fn of(mut waits_us: Vec<u64>) -> Self {
        waits_us.sort_unstable();
        #[expect(clippy::cast_precision_loss, reason = "a figure in a table needs no precision")]
        let at = |percent: usize| waits_us[(waits_us.len() - 1) * percent / 100] as f64 / 1_000.0;
        Self {
            events: waits_us.len(),
            p50_ms: at(50),
            p95_ms: at(95),
            p99_ms: at(99),
            max_ms: at(100),
        }
    }
}

/// SIGKILL with ten thousand attempts in flight, and the memory that these attempts need.
async fn recovery(postgres: &Postgres) -> anyhow::Result<()> {
    let (many, hold) = (IN_FLIGHT.to_string(), "300");
    let settings = [
        ("LOG", "warn"),
        ("MAX_IN_FLIGHT", &*many),
        ("MAX_IN_FLIGHT_PER_HOST", &*many),
        ("HTTP_TIMEOUT", hold),
    ];
    let mut stand = Stand::start(postgres, &settings).await?;
    let journal = Journal::new();
    let receivers = stand::receivers(1, &hang_first(), &journal).await?;
    let target = stand::url(&receivers[0]);
    print_line(&format!("idle: {}", resources(&stand).await?));
    backlog::fill(&stand.pool, &target, 0..FEW).await?;
    await_open(&journal, FEW).await?;
    print_line(&format!("{FEW} hanging attempts: {}", resources(&stand).await?));
    backlog::fill(&stand.pool, &target, FEW..IN_FLIGHT).await?;
    let began = Instant::now();
    await_open(&journal, IN_FLIGHT).await?;
    print_line(&format!(
        "{IN_FLIGHT} hanging attempts after {} ms: {}",
        began.elapsed().as_millis(),
        resources(&stand).await?
    ));
    sleep(WARM_UP).await;
    print_line(&format!(
        "{IN_FLIGHT} hanging attempts after 5 more seconds: {}",
        resources(&stand).await?
    ));

    stand.kill().await?;
    let seen = journal.receipts().len() as u64;
    let started = journal.now_us();
    stand.restart().await?;
    let ready = journal.now_us();
    stand.all_ended(WAIT_MAX).await?;
    let resent: Vec<Receipt> = journal.receipts_since(seen);
    let ordinals: BTreeSet<_> = resent.iter().map(|receipt| receipt.ordinal).collect();
    let times: Vec<_> = resent.iter().map(|receipt| receipt.begin_us).collect();
    let after = |time: Option<&u64>, zero: u64| {
        time.map_or(f64::NAN, |&time| (time as f64 - zero as f64) / 1e6)
    };
    print_line(&format!(
        "SIGKILL and restart: first resend {:.2} s after the start ({:.2} s after readiness), last \
         {:.2} s; {} duplicates of {IN_FLIGHT} in flight, {} events resent; then {}",
        after(times.iter().min(), started),
        after(times.iter().min(), ready),
        after(times.iter().max(), started),
        resent.len(),
        ordinals.len(),
        resources(&stand).await?,
    ));
    Ok(())
}

fn hang_first() -> Script {
    std::sync::Arc::new(|seen: &Seen| match seen.arrival {
        1 => Behavior::Hang { hold_ms: HANG_MS },
        _ => Behavior::answer(200),
    })
}

async fn await_open(journal: &Journal, open: usize) -> anyhow::Result<()> {
    let mut changed = journal.changed();
    while journal.open_requests() < open {
        timeout(WAIT_MAX, changed.changed()).await??;
    }
    Ok(())
}

/// Database connections and memory of the dispatcher.
async fn resources(stand: &Stand) -> anyhow::Result<String> {
    let connections = "select count(*) from pg_stat_activity
        where datname = current_database() and application_name = 'webhook-dispatcher'";
    let connections: i64 = sqlx::query_scalar(connections).fetch_one(&stand.pool).await?;
    Ok(format!(
        "{connections} database connections, RSS {:.0} MiB",
        processes::rss_mib(stand.pid())
    ))
}
