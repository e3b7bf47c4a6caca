//! `cargo bench`: claims per second by batch and workers, beside plain SQL, and the path of an
//! event from the post to `delivered`.
//!
//! The flags of Criterion work: `-- --quick`, `-- --test`, a filter. The benchmark finds or starts
//! a Postgres with fsync on.

use std::cell::RefCell;
use std::io::Write;
use std::time::Duration;

use benches::figures::{EndToEnd, Figures, Pair};
use benches::load::{self, Client};
use benches::ours::Ours;
use benches::plain::Plain;
use benches::processes;
use benches::sides::{Shape, timed};
use benches::stand::{self, Stand};
use chaos::postgres::Postgres;
use criterion::{Bencher, BenchmarkId, Criterion, SamplingMode, Throughput};
use mock_receiver::{Behavior, Journal, script};
use tokio::runtime::Runtime;
use tokio::time::Instant;

const BATCHES: [usize; 4] = [1, 16, 100, 500];
const WORKERS: [usize; 3] = [1, 2, 4];
/// Database connections of each side.
const CONNECTIONS: u32 = 4;

/// Connections over which events are posted.
const CLIENTS: usize = 64;
/// Receivers. The default limit is 64 attempts per host, so eight hosts can use all 512 permits.
const TARGETS: usize = 8;
/// Maximum time until the last event of a load is delivered.
const DRAIN_MAX: Duration = Duration::from_secs(120);

/// Hanging attempts while the memory is read: the default of `MAX_IN_FLIGHT`.
const HANGING: usize = 512;
/// `MAX_IN_FLIGHT` for them, because hosts that do not respond hold at most half of the permits.
const PERMITS: &str = "1024";

fn main() -> anyhow::Result<()> {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(1_200))
        .configure_from_args();
    let runtime = Runtime::new()?;
    let postgres = runtime.block_on(stand::postgres())?;
    let figures = RefCell::new(Figures::default());
    compare(&mut criterion, &runtime, &postgres, &figures)?;
    end_to_end(&mut criterion, &runtime, &postgres, &figures)?;
    criterion.final_summary();
    let mut out = std::io::stdout();
    writeln!(out, "\nPostgres: {}\n{}", postgres.origin(), figures.take())?;
    Ok(())
}

fn compare(
    criterion: &mut Criterion,
    runtime: &Runtime,
    postgres: &Postgres,
    figures: &RefCell<Figures>,
) -> anyhow::Result<()> {
    let (ours, plain) = runtime.block_on(async {
        let (ours, plain) =
            (postgres.create_database("ours").await?, postgres.create_database("plain").await?);
        anyhow::Ok((Ours::open(&ours, CONNECTIONS).await?, Plain::open(&plain, CONNECTIONS).await?))
    })?;
    for (name, settle, batches) in [("claim", false, &BATCHES[..]), ("claim_settle", true, &[100])]
    {
        let mut group = criterion.benchmark_group(name);
        group.sampling_mode(SamplingMode::Flat);
        for (&batch, workers) in batches.iter().flat_map(|batch| WORKERS.map(|w| (batch, w))) {
            let shape = Shape { batch, workers, settle };
            group.throughput(Throughput::Elements(batch as u64));
            let id = BenchmarkId::new(format!("batch_{batch}"), format!("workers_{workers}"));
            group.bench_function(id, |bencher| {
                bencher.iter_custom(|batches| {
                    let pair = runtime.block_on(async {
                        let ours = timed(&ours, shape, batches).await;
                        let plain = timed(&plain, shape, batches).await;
                        Pair { rows: batches * batch as u64, ours, plain }
                    });
                    figures.borrow_mut().pair(shape, pair);
                    pair.ours
                });
            });
        }
        group.finish();
    }
    Ok(())
}

fn end_to_end(
    criterion: &mut Criterion,
    runtime: &Runtime,
    postgres: &Postgres,
    figures: &RefCell<Figures>,
) -> anyhow::Result<()> {
    let mut group = criterion.benchmark_group("end_to_end");
    group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(1));
    group.measurement_time(Duration::from_secs(6)).warm_up_time(Duration::from_secs(1));
    let mut ran = false;
    for log in ["warn", "info"] {
        let mut path = None;
        group.bench_function(format!("log_{log}"), |bencher| {
            let path = path.get_or_insert_with(|| {
                runtime.block_on(Path::open(postgres, log)).expect("dispatcher and receivers start")
            });
            path.bench(bencher, runtime, |load| {
                figures.borrow_mut().load(&format!("accept to delivered, LOG={log}"), load);
            });
            ran = true;
        });
        if let Some(path) = path {
            let pid = path.stand.pid();
            figures.borrow_mut().note(format!(
                "RSS of the dispatcher, LOG={log}: {:.0} MiB, peak {:.0} MiB",
                processes::rss_mib(pid),
                processes::rss_peak_mib(pid)
            ));
        }
    }
    group.finish();
    if ran {
        let note = runtime.block_on(memory_in_flight(postgres))?;
        figures.borrow_mut().note(note);
    }
    Ok(())
}

/// Clients, dispatcher and receivers.
struct Path {
    stand: Stand,
    journal: Journal,
    targets: Vec<String>,
    clients: Vec<Client>,
    _receivers: Vec<mock_receiver::Receiver>,
}

impl Path {
    async fn open(postgres: &Postgres, log: &str) -> anyhow::Result<Self> {
        let stand = Stand::start(postgres, &[("LOG", log)]).await?;
        let journal = Journal::disabled();
        let receivers =
            stand::receivers(TARGETS, &script::always(Behavior::answer(200)), &journal).await?;
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(Client::connect(stand.address()).await?);
        }
        let targets = receivers.iter().map(stand::url).collect();
        Ok(Self { stand, journal, targets, clients, _receivers: receivers })
    }

    /// One iteration is one event that is accepted, received and settled.
    fn bench(
        &mut self,
        bencher: &mut Bencher<'_>,
        runtime: &Runtime,
        mut note: impl FnMut(EndToEnd),
    ) {
        bencher.iter_custom(|events| {
            let load = runtime.block_on(self.load(events)).expect("every event is delivered");
            note(load);
            load.elapsed
        });
    }

    async fn load(&mut self, events: u64) -> anyhow::Result<EndToEnd> {
        let received = self.journal.counts().requests;
        let (before, began) = (self.stand.spent(), Instant::now());
        load::post_all(&mut self.clients, events, &self.targets).await?;
        self.stand.all_ended(DRAIN_MAX).await?;
        let elapsed = began.elapsed();
        let (dispatcher, postgres) = self.stand.spent().since(before);
        anyhow::ensure!(
            self.journal.counts().requests - received >= events,
            "fewer requests were received than events posted"
        );
        Ok(EndToEnd { events, elapsed, dispatcher, postgres })
    }
}

/// Resident memory while the default number of attempts hangs.
async fn memory_in_flight(postgres: &Postgres) -> anyhow::Result<String> {
    let settings = [("LOG", "warn"), ("MAX_IN_FLIGHT", PERMITS)];
    let stand = Stand::start(postgres, &settings).await?;
    let idle = processes::rss_mib(stand.pid());
    let journal = Journal::new();
    let hang: Behavior = Behavior::Hang { hold_ms: 60_000 };
    let receivers = stand::receivers(TARGETS, &script::always(hang), &journal).await?;
    let targets: Vec<_> = receivers.iter().map(stand::url).collect();
    let mut client = [Client::connect(stand.address()).await?];
    load::post_all(&mut client, HANGING as u64, &targets).await?;
    let mut changed = journal.changed();
    while journal.open_requests() < HANGING {
        tokio::time::timeout(DRAIN_MAX, changed.changed()).await??;
    }
    let full = processes::rss_mib(stand.pid());
    Ok(format!("RSS with {HANGING} attempts in flight: {full:.0} MiB, idle: {idle:.0} MiB"))
}
