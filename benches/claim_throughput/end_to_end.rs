//! The path of an event from the post to `delivered` over 64 connections, beside one-row inserts:
//! rate, CPU, WAL and commits. The rate is also measured with idempotency keys and with `LOG=info`.
//!
//! Each round measures all variants and references one after another.

use std::time::Duration;

use benches::cost::Load;
use benches::figures::{Pair, Pairs};
use benches::http_pair;
use benches::load::PAYLOAD_BYTES;
use benches::path::{CLIENTS, Path};
use benches::pgbench::Inserts;
use benches::processes;
use benches::table::{Goal, Reference, Row, Unit};
use criterion::{Criterion, SamplingMode, Throughput};

use crate::bench::Bench;

/// Events of an iteration, about a second of load. A load in a test has fewer.
const EVENTS: u64 = 10_000;
const EVENTS_OF_TEST: u64 = 64;

/// The dispatchers of all variants. Those that have no load only wait.
struct Paths {
    warn: Path,
    info: Path,
}

/// One round.
struct Round {
    plain: Load,
    keyed: Load,
    info: Load,
    /// One-row inserts. `None` without `pgbench`.
    inserts: Option<Load>,
    /// Requests per second without a dispatcher.
    http_pair: f64,
}

pub(crate) fn measure(bench: &Bench, criterion: &mut Criterion) -> anyhow::Result<Vec<Row>> {
    let mut group = criterion.benchmark_group("end_to_end");
    let events = bench.args.load(EVENTS, EVENTS_OF_TEST);
    group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(events));
    group.measurement_time(Duration::from_secs(8));
    let (mut paths, mut rounds) = (None, Vec::new());
    group.bench_function(format!("connections_{CLIENTS}"), |bencher| {
        let paths = paths.get_or_insert_with(|| {
            let open = |log| bench.path(log).expect("dispatcher and receivers start");
            Paths { warn: open("warn"), info: open("info") }
        });
        bencher.iter_custom(|count| {
            let measured = bench.runtime.block_on(paths.round(bench, count * events));
            let round = measured.expect("every event is delivered");
            let elapsed = round.plain.elapsed;
            rounds.push(round);
            elapsed
        });
    });
    group.finish();
    let Some(paths) = paths else {
        return Ok(Vec::new());
    };
    if rounds.len() > 1 {
        // The warm-up, in which statements are prepared and connections are opened.
        rounds.remove(0);
    }
    let mut rows = rates(&rounds);
    rows.extend(costs(&rounds));
    rows.push(memory(&paths.warn));
    Ok(rows)
}

impl Paths {
    async fn round(&mut self, bench: &Bench, events: u64) -> anyhow::Result<Round> {
        let meter = &bench.meter;
        Ok(Round {
            plain: self.warn.load(meter, events, false).await?,
            inserts: inserts(bench, events).await?,
            info: self.info.load(meter, events, false).await?,
            keyed: self.warn.load(meter, events, true).await?,
            http_pair: bench.http_pair.run(events).await?,
        })
    }
}

/// One-row inserts with their costs. The time is that of `pgbench`, without connecting.
async fn inserts(bench: &Bench, rows: u64) -> anyhow::Result<Option<Load>> {
    let mut inserted = None;
    let work = async {
        inserted = bench.inserts(Inserts::Single, rows).await?;
        Ok(())
    };
    let load = bench.meter.measure(None, rows, work).await?;
    Ok(inserted.map(|inserted| Load { events: inserted.rows, elapsed: inserted.elapsed, ..load }))
}

fn rates(rounds: &[Round]) -> Vec<Row> {
    let b1 = Inserts::Single.name();
    let pairs = |name: &str, reference, goal, pair: &dyn Fn(&Round) -> (f64, Option<f64>)| Pairs {
        name: name.to_owned(),
        reference,
        goal,
        pairs: rounds
            .iter()
            .map(|round| {
                let (ours, reference) = pair(round);
                Pair { ours, reference }
            })
            .collect(),
    };
    let of_inserts = |round: &Round| round.inserts.map(|load| load.rate());
    let all = [
        pairs("end to end, 64 connections", b1, Some(Goal::ratio(0.65, 0.55)), &|round| {
            (round.plain.rate(), of_inserts(round))
        }),
        pairs("end to end, 64 connections", http_pair::NAME, None, &|round| {
            (round.plain.rate(), Some(round.http_pair))
        }),
        pairs("the same, each post with a key", "without", Some(Goal::ratio(0.7, 0.5)), &|round| {
            (round.keyed.rate(), Some(round.plain.rate()))
        }),
        pairs("the same, LOG=info", "LOG=warn", Some(Goal::ratio_only(0.93)), &|round| {
            (round.info.rate(), Some(round.plain.rate()))
        }),
    ];
    all.iter().filter_map(Pairs::row).collect()
}

/// The costs per event of all rounds together.
fn costs(rounds: &[Round]) -> Vec<Row> {
    let ours = Load::sum(rounds.iter().map(|round| &round.plain));
    let inserts: Vec<_> = rounds.iter().filter_map(|round| round.inserts).collect();
    let inserts = (!inserts.is_empty()).then(|| Load::sum(&inserts));
    let row = |name: &str, unit, goal, figure: &dyn Fn(&Load) -> f64| Row {
        name: name.to_owned(),
        unit,
        ours: figure(&ours),
        reference: inserts
            .as_ref()
            .map(|load| Reference { name: Inserts::Single.name(), value: figure(load) }),
        goal: Some(goal),
        rounds: rounds.len(),
    };
    let cpu = "CPU per event, dispatcher + Postgres";
    vec![
        row(cpu, Unit::Ms, Goal::value(0.10, 0.12), &Load::cpu_ms),
        row("WAL per event beyond the body", Unit::Kib, Goal::value(1.3, 2.0), &|load| {
            load.wal_kib_beyond(PAYLOAD_BYTES)
        }),
        row("commits per event", Unit::PerEvent, Goal::value(0.10, 0.15), &Load::commits),
    ]
}

fn memory(path: &Path) -> Row {
    let pid = path.stand.pid();
    Row {
        name: "RSS after the load".to_owned(),
        unit: Unit::Mib,
        ours: processes::rss_mib(pid),
        reference: Some(Reference { name: "its peak", value: processes::rss_peak_mib(pid) }),
        goal: None,
        rounds: 1,
    }
}
