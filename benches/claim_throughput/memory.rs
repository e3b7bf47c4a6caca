//! Resident memory of the dispatcher while the default number of attempts hangs, beside that of the
//! idle process.

use benches::load::{Client, Posts, post_all};
use benches::path::{DRAIN_MAX, TARGETS};
use benches::processes;
use benches::stand::{self, Stand};
use benches::table::{Goal, Reference, Row, Unit};
use mock_receiver::{Behavior, Journal, script};
use tokio::time::timeout;

use crate::bench::Bench;

const NAME: &str = "memory";
/// Hanging attempts: the default of `MAX_IN_FLIGHT`.
const HANGING: usize = 512;
/// `MAX_IN_FLIGHT` for them, because hosts that do not respond hold at most half of the permits.
const PERMITS: &str = "1024";
/// Longer than the measurement.
const HOLD_MS: u64 = 60_000;

pub(crate) fn measure(bench: &Bench) -> anyhow::Result<Option<Row>> {
    if !bench.args.wants(NAME) {
        return Ok(None);
    }
    let (idle_mib, full_mib) = bench.runtime.block_on(in_flight(bench))?;
    Ok(Some(Row {
        name: format!("RSS with {HANGING} attempts in flight"),
        unit: Unit::Mib,
        ours: full_mib,
        reference: Some(Reference { name: "idle", value: idle_mib }),
        goal: Some(Goal::value(60.0, 100.0)),
        rounds: 1,
    }))
}

async fn in_flight(bench: &Bench) -> anyhow::Result<(f64, f64)> {
    let settings = [("LOG", "warn"), ("MAX_IN_FLIGHT", PERMITS)];
    let stand = Stand::start(&bench.postgres, &settings).await?;
    let idle_mib = processes::rss_mib(stand.pid());
    let journal = Journal::disabled();
    let hang = script::always(Behavior::Hang { hold_ms: HOLD_MS });
    let receivers = stand::receivers(TARGETS, &hang, &journal).await?;
    let targets: Vec<_> = receivers.iter().map(stand::url).collect();
    let mut client = [Client::connect(stand.address()).await?];
    let posts = Posts { events: HANGING as u64, targets: &targets, keyed: false };
    post_all(&mut client, posts).await?;
    let mut changed = journal.changed();
    while journal.open_requests() < HANGING {
        timeout(DRAIN_MAX, changed.changed()).await??;
    }
    Ok((idle_mib, processes::rss_mib(stand.pid())))
}
