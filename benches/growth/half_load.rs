//! Half of the highest rate for half an hour: memory, table and index must stay flat.
//!
//! Finished events stay in the table, so its size is given per event. After the run, the rate is
//! compared with that of an empty dispatcher.

use std::time::Duration;

use benches::load::Client;
use benches::path::{CLIENTS, DRAIN_MAX};
use benches::processes;
use benches::scale::duration_text;
use benches::stand::Stand;
use benches::table::{Reference, Row, Unit};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::compare::Growth;

const DURATION: Duration = Duration::from_secs(1_800);
/// Readings of the sizes. The first one is the reference.
const READINGS: u32 = 30;
/// Events of the load that shows the highest rate.
const EVENTS: u64 = 20_000;

const SIZES: &str = "
select pg_table_size('webhook_events')::float8, pg_relation_size('webhook_events_due')::float8,
    coalesce(s.autovacuum_count, 0), coalesce(s.n_dead_tup, 0)
from pg_stat_user_tables s where s.relname = 'webhook_events'";

/// One reading.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    rss_mib: f64,
    table_kib_per_event: f64,
    due_index_mib: f64,
    autovacuums: i64,
    dead_rows: i64,
}

pub(crate) async fn run(growth: &Growth) -> anyhow::Result<Vec<Row>> {
    let during = growth.scale.time(DURATION);
    let mut sides = growth.equal_sides().await?;
    growth.pair(&mut sides, EVENTS).await?;
    let highest = growth.pair(&mut sides, EVENTS).await?.ours;
    let half = highest / 2.0;
    eprintln!("  {half:.0} posts per second for {}", duration_text(during));
    let every = Duration::from_secs_f64(CLIENTS as f64 / half);
    let stand = &sides.grown.stand;
    let mut posting = JoinSet::new();
    for _ in 0..CLIENTS {
        let client = Client::connect(stand.address()).await?;
        posting.spawn(post(client, sides.grown.targets.clone(), every, during));
    }
    let mut readings = Vec::new();
    for number in 1..=READINGS {
        sleep(during / READINGS).await;
        let sizes = sizes(stand).await?;
        eprintln!(
            "  reading {number} of {READINGS}: RSS {:.0} MiB, table {:.2} KiB per event, index of \
             due events {:.1} MiB, {} dead rows, {} autovacuums",
            sizes.rss_mib,
            sizes.table_kib_per_event,
            sizes.due_index_mib,
            sizes.dead_rows,
            sizes.autovacuums
        );
        readings.push(sizes);
    }
    let mut posted = 0;
    while let Some(client) = posting.join_next().await {
        posted += client??;
    }
    stand.all_ended(DRAIN_MAX).await?;
    eprintln!("  {posted} events posted and delivered");
    let name = format!("{:.0} posts/s for {}", half, duration_text(during));
    let mut rows = growth.compare(&format!("after {name}"), &mut sides).await?;
    rows.extend(flat(&name, &readings));
    Ok(rows)
}

/// Posts at a constant rate and returns the number of posts.
async fn post(
    mut client: Client,
    targets: Vec<String>,
    every: Duration,
    during: Duration,
) -> anyhow::Result<u64> {
    let began = Instant::now();
    let mut ticks = interval(every);
    // A client that was late catches up, so that the rate is kept.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut posted = 0;
    for target in targets.iter().cycle() {
        ticks.tick().await;
        if began.elapsed() >= during {
            break;
        }
        client.post(target).await?;
        posted += 1;
    }
    Ok(posted)
}

async fn sizes(stand: &Stand) -> anyhow::Result<Sizes> {
    let (table, due_index, autovacuums, dead_rows): (f64, f64, i64, i64) =
        sqlx::query_as(SIZES).fetch_one(&stand.pool).await?;
    let events = stand.metric(r#"webhook_accepts_total{status="202"}"#).await?;
    Ok(Sizes {
        rss_mib: processes::rss_mib(stand.pid()),
        table_kib_per_event: table / 1_024.0 / events,
        due_index_mib: due_index / f64::from(1 << 20),
        autovacuums,
        dead_rows,
    })
}

fn flat(name: &str, readings: &[Sizes]) -> Vec<Row> {
    let (Some(first), Some(last)) = (readings.first(), readings.last()) else {
        return Vec::new();
    };
    let row = |what: &str, unit, figure: fn(&Sizes) -> f64| Row {
        name: format!("{name}: {what}"),
        unit,
        ours: figure(last),
        reference: Some(Reference { name: "first reading", value: figure(first) }),
        goal: None,
        rounds: readings.len(),
    };
    let table = format!("table per event, {} autovacuums", last.autovacuums);
    vec![
        row("RSS", Unit::Mib, |sizes| sizes.rss_mib),
        row(&table, Unit::Kib, |sizes| sizes.table_kib_per_event),
        row("index of due events", Unit::Mib, |sizes| sizes.due_index_mib),
    ]
}
