//! Accepts by connections: posts to a dispatcher that delivers nothing, beside inserts of 100 rows.

use std::time::Duration;

use benches::figures::{Pair, Pairs, rate};
use benches::load::{Client, Posts, post_all};
use benches::pgbench::Inserts;
use benches::stand::Stand;
use benches::table::{Goal, Row};
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use tokio::time::Instant;

use crate::bench::Bench;

/// The load of an iteration, about a second on an idle machine.
struct Shape {
    connections: usize,
    events: u64,
}

const SHAPES: [Shape; 4] = [
    Shape { connections: 1, events: 400 },
    Shape { connections: 16, events: 5_000 },
    Shape { connections: 64, events: 10_000 },
    Shape { connections: 256, events: 10_000 },
];
const EVENTS_OF_TEST: u64 = 256;
/// Rows of the reference.
const ROWS: u64 = 20_000;
/// From this number of connections on, the goal holds.
const GOAL_CONNECTIONS: usize = 64;
const GOAL: Goal = Goal::ratio(0.50, 0.35);
/// A target that gets no request.
const TARGET: &str = "http://127.0.0.1:9/webhook";

pub(crate) fn measure(bench: &Bench, criterion: &mut Criterion) -> anyhow::Result<Vec<Row>> {
    let mut group = criterion.benchmark_group("accept");
    group.sampling_mode(SamplingMode::Flat).measurement_time(Duration::from_secs(6));
    let mut stand = None;
    let mut rows = Vec::new();
    for Shape { connections, events } in SHAPES {
        let events = bench.args.load(events, EVENTS_OF_TEST);
        group.throughput(Throughput::Elements(events));
        let plural = if connections == 1 { "" } else { "s" };
        let mut pairs = Pairs {
            name: format!("accept, {connections} connection{plural}"),
            reference: Inserts::Hundred.name(),
            goal: (connections >= GOAL_CONNECTIONS).then_some(GOAL),
            pairs: Vec::new(),
        };
        let mut clients = Vec::new();
        group.bench_function(BenchmarkId::new("connections", connections), |bencher| {
            let stand = stand.get_or_insert_with(|| {
                let settings = [("LOG", "warn")];
                let started = Stand::start_as(&bench.postgres, &["api"], &settings);
                bench.runtime.block_on(started).expect("the dispatcher starts")
            });
            if clients.is_empty() {
                let connected = bench.runtime.block_on(connect(stand, connections));
                clients = connected.expect("the dispatcher accepts connections");
            }
            bencher.iter_custom(|count| {
                let measured = bench.runtime.block_on(once(bench, &mut clients, count * events));
                let (elapsed, pair) = measured.expect("every event is accepted");
                pairs.pairs.push(pair);
                elapsed
            });
        });
        rows.extend(pairs.without_warm_up().row());
    }
    group.finish();
    Ok(rows)
}

async fn connect(stand: &Stand, connections: usize) -> anyhow::Result<Vec<Client>> {
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(Client::connect(stand.address()).await?);
    }
    Ok(clients)
}

async fn once(
    bench: &Bench,
    clients: &mut [Client],
    events: u64,
) -> anyhow::Result<(Duration, Pair)> {
    let targets = [TARGET.to_owned()];
    let began = Instant::now();
    post_all(clients, Posts { events, targets: &targets, keyed: false }).await?;
    let elapsed = began.elapsed();
    let inserted = bench.inserts(Inserts::Hundred, bench.args.load(ROWS, 1)).await?;
    let reference = inserted.map(|inserted| inserted.rate());
    Ok((elapsed, Pair { ours: rate(events, elapsed), reference }))
}
