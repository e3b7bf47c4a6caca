//! Many targets, large bodies, slow receivers and receivers that fail.

use std::net::Ipv4Addr;
use std::sync::Arc;

use benches::pgbench::Pgbench;
use benches::processes;
use benches::stand;
use benches::table::Row;
use mock_receiver::{Behavior, Journal, Script, Seen, script};

use crate::compare::Growth;

/// Targets with separate addresses, so that each is a host of its own.
const TARGETS: usize = 10_000;
/// Open files beside the connections of the targets.
const DESCRIPTORS_SPARE: usize = 500;
/// Bytes of bodies per load of large bodies.
const LOAD_BYTES: u64 = 128 << 20;
const EVENTS: u64 = 20_000;
const SLOW_MS: u64 = 50;
const MORE_PERMITS: [(&str, &str); 2] =
    [("MAX_IN_FLIGHT", "2048"), ("MAX_IN_FLIGHT_PER_HOST", "256")];
/// More events, because each load ends with a wait for the second attempts.
const FAILURE_EVENTS: u64 = 60_000;
const NO_REUSE: [(&str, &str); 1] = [("CONNECTION_REUSE", "false")];
/// One of this number of first attempts fails.
const FAILURE_EVERY: u32 = 20;
/// Delay of the second attempt.
const BACKOFF: (&str, &str) = ("BACKOFF_BASE_SECONDS", "0.1");

/// A host gets two events of a load, so nearly each of them needs a new connection. This is why the
/// rate is also compared with that of eight targets without reuse.
pub(crate) async fn targets(growth: &Growth) -> anyhow::Result<Vec<Row>> {
    let count = growth.scale.count(TARGETS);
    let needed = count + DESCRIPTORS_SPARE;
    anyhow::ensure!(
        processes::descriptors_max().is_none_or(|max| max >= needed),
        "{count} targets need {needed} open files: run `ulimit -n {needed}` first"
    );
    let answer = script::always(Behavior::answer(200));
    // A socket on all addresses receives the requests to each address of the loopback network.
    let all = Ipv4Addr::UNSPECIFIED;
    let receivers = stand::receivers_at(all, 1, &answer, &Journal::disabled()).await?;
    let port = receivers[0].address().port();
    let targets = (0..u32::try_from(count)?).map(|number| {
        let address = Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 1).to_bits() + number);
        format!("http://{address}:{port}/webhook")
    });
    let targets: Vec<_> = targets.collect();
    let mut rows = Vec::new();
    for (name, both) in [("", &[][..]), (", all without reuse of connections", &NO_REUSE)] {
        let mut sides = growth.sides_with(both, &[], &answer).await?;
        sides.grown.targets.clone_from(&targets);
        rows.extend(growth.compare(&format!("{count} targets{name}"), &mut sides).await?);
    }
    Ok(rows)
}

/// Bodies of this size, beside those of the default size and beside inserts of the same bodies.
pub(crate) async fn bodies(growth: &Growth, bytes: usize) -> anyhow::Result<Vec<Row>> {
    let mut sides = growth.equal_sides().await?;
    sides.grown.set_payload_bytes(bytes);
    let inserts = Pgbench::open(&growth.postgres, bytes).await?;
    let events = (LOAD_BYTES / bytes as u64).min(EVENTS);
    let name = format!("bodies of {bytes} bytes");
    growth.compare_by(&name, &mut sides, events, inserts.as_ref()).await
}

/// With the default limits, the permits of attempts that wait for a response limit the rate, so
/// the rate is also measured with higher limits.
pub(crate) async fn slow(growth: &Growth) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (name, settings) in [("", &[][..]), (", MAX_IN_FLIGHT=2048", &MORE_PERMITS)] {
        let answer = Behavior::Answer { status: 200, retry_after: None, after_ms: SLOW_MS };
        let mut sides = growth.sides(settings, &script::always(answer)).await?;
        let name = format!("receivers that respond after {SLOW_MS} ms{name}");
        rows.extend(growth.compare(&name, &mut sides).await?);
    }
    Ok(rows)
}

pub(crate) async fn failures(growth: &Growth) -> anyhow::Result<Vec<Row>> {
    let mut sides = growth.sides(&[BACKOFF], &failing()).await?;
    let name = format!("{} % of the first attempts fail", 100 / FAILURE_EVERY);
    growth.compare_by(&name, &mut sides, FAILURE_EVENTS, None).await
}

fn failing() -> Script {
    Arc::new(|seen: &Seen| {
        let sum: u32 = seen.id.bytes().map(u32::from).sum();
        let fails = seen.attempt == Some(1) && sum.is_multiple_of(FAILURE_EVERY);
        Behavior::answer(if fails { 500 } else { 200 })
    })
}
