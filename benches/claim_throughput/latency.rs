//! Times from the 202, and from the post, to the complete request at the receiver, at 100 posts per
//! second, beside the round trip of one HTTP request at the same rate.
//!
//! The receiver and the client share a clock. The request can arrive before the 202 does, so the
//! time from the 202 can be negative.

use std::collections::BTreeMap;
use std::time::Duration;

use benches::figures::quantile;
use benches::load::Client;
use benches::path::DRAIN_MAX;
use benches::stand::{self, Stand};
use benches::table::{Goal, Reference, Row, Unit};
use mock_receiver::{Behavior, Journal, script};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::bench::Bench;

const NAME: &str = "latency";
/// Time between two posts.
const POST_INTERVAL: Duration = Duration::from_millis(10);
/// Alternating rounds.
const ROUNDS: usize = 5;
/// Posts per round.
const POSTS: u64 = 400;
/// Requests of the reference per round.
const REQUESTS: usize = 100;

/// A line of the table.
struct Line {
    from: &'static str,
    share: f64,
    goal: Option<Goal>,
}

const SINCE_ACCEPT: [Line; 2] = [
    Line { from: "202", share: 0.5, goal: Some(Goal::value(0.2, 0.4)) },
    Line { from: "202", share: 0.99, goal: Some(Goal::value(1.0, 2.0)) },
];
const SINCE_POST: [Line; 2] =
    [Line { from: "post", share: 0.5, goal: None }, Line { from: "post", share: 0.99, goal: None }];

pub(crate) fn measure(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    if !bench.args.wants(NAME) {
        return Ok(Vec::new());
    }
    eprintln!("measuring the latency at 100 posts per second");
    let mut waits = Waits::default();
    bench.runtime.block_on(waits.measure(bench))?;
    let mut row = |line: &Line, ours: &[f64]| Row {
        name: format!("{} to received at 100 posts/s, p{:.0}", line.from, 100.0 * line.share),
        unit: Unit::Ms,
        ours: quantile(&mut ours.to_vec(), line.share),
        reference: Some(Reference {
            name: "HTTP round trip",
            value: quantile(&mut waits.reference_ms, line.share),
        }),
        goal: line.goal,
        rounds: bench.args.rounds(ROUNDS),
    };
    let mut rows: Vec<_> =
        SINCE_ACCEPT.iter().map(|line| row(line, &waits.since_accept_ms)).collect();
    rows.extend(SINCE_POST.iter().map(|line| row(line, &waits.since_post_ms)));
    Ok(rows)
}

/// A post on the clock of the journal.
struct Posted {
    begun_us: u64,
    accepted_us: u64,
}

/// The measured times.
#[derive(Default)]
struct Waits {
    since_accept_ms: Vec<f64>,
    since_post_ms: Vec<f64>,
    reference_ms: Vec<f64>,
}

impl Waits {
    async fn measure(&mut self, bench: &Bench) -> anyhow::Result<()> {
        let stand = Stand::start(&bench.postgres, &[("LOG", "warn")]).await?;
        let journal = Journal::new();
        let answer = script::always(Behavior::answer(200));
        let receivers = stand::receivers(1, &answer, &journal).await?;
        let target = stand::url(&receivers[0]);
        let mut client = Client::connect(stand.address()).await?;
        let mut ticks = interval(POST_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first posts open connections and prepare statements.
        client.post(&target).await?;
        bench.http_pair.round_trip().await?;
        let mut posted = BTreeMap::new();
        for _ in 0..bench.args.rounds(ROUNDS) {
            for _ in 0..bench.args.load(POSTS, 10) {
                ticks.tick().await;
                let (number, begun_us) = (posted.len() as u64 + 1, journal.now_us());
                client.post(&format!("{target}/{number}")).await?;
                posted.insert(number, Posted { begun_us, accepted_us: journal.now_us() });
            }
            for _ in 0..bench.args.load(REQUESTS, 10) {
                ticks.tick().await;
                let took = bench.http_pair.round_trip().await?;
                self.reference_ms.push(took.as_secs_f64() * 1_000.0);
            }
        }
        let mut changed = journal.changed();
        while journal.counts().requests <= posted.len() as u64 {
            timeout(DRAIN_MAX, changed.changed()).await??;
        }
        for receipt in journal.receipts() {
            if let Some(post) = receipt.ordinal.and_then(|number| posted.remove(&number)) {
                let ms_since = |at: u64| (receipt.begin_us as f64 - at as f64) / 1_000.0;
                self.since_accept_ms.push(ms_since(post.accepted_us));
                self.since_post_ms.push(ms_since(post.begun_us));
            }
        }
        anyhow::ensure!(posted.is_empty(), "{} events were not received", posted.len());
        Ok(())
    }
}
