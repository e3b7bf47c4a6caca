//! Claims, and claims that are settled with their attempts, by batch and by workers, beside plain
//! SQL.

use std::time::Duration;

use benches::figures::{Pair, Pairs, rate};
use benches::ours::Ours;
use benches::plain::Plain;
use benches::sides::{Backlog, Shape, timed};
use benches::table::{Goal, Row};
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};

use crate::bench::Bench;

const BATCHES: [usize; 4] = [1, 16, 100, 500];
const WORKERS: [usize; 3] = [1, 2, 4];
/// The batch of the goals.
const GOAL_BATCH: usize = 100;
/// Database connections of each side.
const CONNECTIONS: u32 = 4;

const BACKLOG: Backlog = Backlog { due: 100_000, future: 1_000_000 };
const BACKLOG_OF_TEST: Backlog = Backlog { due: 1_000, future: 1_000 };

pub(crate) fn measure(bench: &Bench, criterion: &mut Criterion) -> anyhow::Result<Vec<Row>> {
    let (ours, plain) = bench.runtime.block_on(async {
        let backlog = bench.args.load(BACKLOG, BACKLOG_OF_TEST);
        let ours = bench.postgres.create_database("ours").await?;
        let plain = bench.postgres.create_database("plain").await?;
        let ours = Ours::open(&ours, CONNECTIONS, backlog).await?;
        anyhow::Ok((ours, Plain::open(&plain, CONNECTIONS, backlog).await?))
    })?;
    let mut rows = Vec::new();
    for (name, settle, batches) in
        [("claim", false, &BATCHES[..]), ("claim_settle", true, &[GOAL_BATCH])]
    {
        let mut group = criterion.benchmark_group(name);
        group.sampling_mode(SamplingMode::Flat).measurement_time(Duration::from_secs(1));
        for (&batch, workers) in batches.iter().flat_map(|batch| WORKERS.map(|w| (batch, w))) {
            let shape = Shape { batch, workers, settle };
            let mut pairs = of_shape(shape);
            let rows_each = bench.args.load(iteration_rows(batch), batch);
            group.throughput(Throughput::Elements(rows_each as u64));
            let id = BenchmarkId::new(format!("batch_{batch}"), format!("workers_{workers}"));
            group.bench_function(id, |bencher| {
                bencher.iter_custom(|count| {
                    let rows = count * rows_each as u64;
                    let batches = rows / batch as u64;
                    let (ours, plain) = bench.runtime.block_on(async {
                        let ours = timed(&ours, shape, batches).await;
                        (ours, timed(&plain, shape, batches).await)
                    });
                    let reference = Some(rate(rows, plain));
                    pairs.pairs.push(Pair { ours: rate(rows, ours), reference });
                    ours
                });
            });
            rows.extend(pairs.without_warm_up().row());
        }
        group.finish();
    }
    Ok(rows)
}

fn of_shape(shape: Shape) -> Pairs {
    let Shape { batch, workers, settle } = shape;
    let (what, reference) = if settle {
        ("claim + settle + attempts", "plain SQL (R4)")
    } else {
        ("claim", "plain SQL (R3)")
    };
    let goal = if settle { Goal::ratio(0.80, 0.60) } else { Goal::ratio(0.90, 0.70) };
    let plural = if workers == 1 { "" } else { "s" };
    Pairs {
        name: format!("{what}, batch {batch}, {workers} worker{plural}"),
        reference,
        goal: (batch == GOAL_BATCH).then_some(goal),
        pairs: Vec::new(),
    }
}

/// Rows of an iteration, a multiple of the batch. It takes a fraction of a second.
fn iteration_rows(batch: usize) -> usize {
    match batch {
        ..10 => 1_000 * batch,
        10..100 => 300 * batch,
        _ => 10_000 / batch * batch,
    }
}
