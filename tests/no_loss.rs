//! No accepted event is lost: the real dispatcher under faults, over a real Postgres.
//!
//! The evidence is the 202 responses of the clients and the receipts of the receivers. All checkers
//! of the harness judge each run. Seeds are pinned or printed. A failed run prints its checks and
//! keeps its directory.

use std::collections::BTreeMap;

use chaos::binary::dispatcher_binary;
use chaos::checker::{Overall, Tier, judge};
use chaos::command::prove;
use chaos::environment::{RunEnvironment, Server};
use chaos::fault::{Family, Kind};
use chaos::history::History;
use chaos::history::op::{Op, Section, Usage};
use chaos::nemesis::{ClockOffset, Crowd, DeepBacklog, FewConnections, HoldHorizon, Schedule};
use chaos::postgres::{OwnParts, OwnServer, Wanted};
use chaos::profile::{Profile, Settings};
use chaos::report::{Context, Judged};
use chaos::seed::Seed;
use chaos::system::{ContainerSystem, ProcessSystem, System};

use crate::support::db;

/// Places of the API of a worker beside a crowd. With few of them, the crowd needs few descriptors.
const API_CONNECTIONS: u32 = 32;

/// A profile whose runs take seconds.
pub(crate) fn small() -> Profile {
    Profile {
        name: "small".into(),
        events: 60,
        baseline_ms: 1_000,
        storm_ms: 4_000,
        workers: 1,
        failures_max: 5,
        answer_delay_ms_max: 300,
        kills: 0,
        kills_required: 0,
        payload_bytes_max: 8 * 1024,
        default_events: 0,
        settings: Settings {
            http_timeout_ms: 800,
            backoff_base_ms: 50,
            backoff_cap_ms: 400,
            lease_ms: 2_000,
            ..Settings::scaled()
        },
        ..Profile::chaotic()
    }
}

/// Runs the schedule and judges it. Keeps the files if the verdict differs from the expected one.
pub(crate) async fn judged<S: System>(
    system: &mut S,
    schedule: &Schedule,
    databases: BTreeMap<Section, String>,
    expected: Overall,
) -> Judged {
    let server = Server::Shared { reason: "all tests share one server".to_owned() };
    judged_on(system, schedule, databases, server, expected).await
}

/// As `judged`, with this server of the main section.
pub(crate) async fn judged_on<S: System>(
    system: &mut S,
    schedule: &Schedule,
    databases: BTreeMap<Section, String>,
    server: Server,
    expected: Overall,
) -> Judged {
    let directory = tempfile::tempdir().unwrap().keep();
    let about = Context { system: system.describe(), ..Context::default() };
    let environment = RunEnvironment { dir: directory.clone(), databases, server };
    let judged = prove(system, schedule, environment, about).await;
    let judged = judged.unwrap_or_else(|error| panic!("{error:#}; see {}", directory.display()));
    if judged.overall == expected {
        std::fs::remove_dir_all(&directory).unwrap();
    } else {
        eprintln!("{}files: {}", judged.checks_text(), directory.display());
    }
    judged
}

async fn assert_no_loss<S: System>(system: &mut S, seed: Seed, profile: &Profile) {
    let url = db::cluster().await.create_database("no_loss").await.unwrap();
    let databases = BTreeMap::from([(Section::Main, url)]);
    let schedule = Schedule::generate(seed, profile);
    let judged = judged(system, &schedule, databases, Overall::Pass).await;
    let totals = judged.totals;
    assert_eq!(judged.overall, Overall::Pass, "seed {seed}: {totals:?}");
    assert_eq!((totals.delivered, totals.dead, totals.lost), (totals.accepted, 0, 0));
    assert!(totals.kills >= u64::from(profile.kills_required));
}

/// More kills than required: a kill counts only if it hits an open request, and some miss.
fn kills() -> Profile {
    Profile { events: 80, storm_ms: 6_000, kills: 5, kills_required: 2, ..small() }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_loss_with_failing_slow_and_hanging_receivers() {
    let mut system = ProcessSystem::new(dispatcher_binary().unwrap());
    assert_no_loss(&mut system, Seed::new(0xfa11), &small()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_loss_with_sigkill_of_the_worker_process() {
    let mut system = ProcessSystem::new(dispatcher_binary().unwrap());
    assert_no_loss(&mut system, Seed::new(0xdead), &kills()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_loss_with_sigkill_of_one_of_two_workers() {
    let mut system = ProcessSystem::new(dispatcher_binary().unwrap());
    let profile = Profile { workers: 2, kills_required: 1, ..kills() };
    assert_no_loss(&mut system, Seed::new(0x2_dead), &profile).await;
}

/// Every fault of workers except kills, with a pinned seed and a new one.
#[tokio::test(flavor = "multi_thread")]
async fn no_loss_with_worker_faults() {
    let fresh = Seed::fresh();
    eprintln!("fresh seed {fresh}");
    let profile = Profile { workers: 2, storm_ms: 8_000, ..small() }.with_family(Family::Worker, 1);
    for seed in [Seed::new(0x570b), fresh] {
        let mut system = ProcessSystem::new(dispatcher_binary().unwrap());
        assert_no_loss(&mut system, seed, &profile).await;
    }
}

/// Every fault of links, and kills triggered by traffic, with a pinned seed and a new one.
#[tokio::test(flavor = "multi_thread")]
async fn no_loss_with_network_faults() {
    let fresh = Seed::fresh();
    eprintln!("fresh seed {fresh}");
    let profile = Profile { workers: 2, events: 80, storm_ms: 10_000, kills: 1, ..small() }
        .with_family(Family::Network, 1);
    for seed in [Seed::new(0x11_4e7), fresh] {
        let mut system = ProcessSystem::new(dispatcher_binary().unwrap());
        assert_no_loss(&mut system, seed, &profile).await;
    }
}

async fn assert_no_loss_with_dedicated_postgres(seed: Seed, profile: &Profile) {
    assert_no_loss_on_dedicated_postgres(&Schedule::generate(seed, profile)).await;
}

/// Runs on a dedicated server. Skips and returns nothing if the machine cannot start one.
async fn assert_no_loss_on_dedicated_postgres(schedule: &Schedule) -> Option<Judged> {
    let mut own = match OwnServer::start(&Wanted::Any, OwnParts::ALL).await {
        Ok(own) => own,
        Err(error) => {
            skipped(&format!("faults of Postgres itself: {error}"));
            return None;
        }
    };
    let url = own.create_database("no_loss").await.unwrap();
    let databases = BTreeMap::from([(Section::Main, url)]);
    let seed = schedule.seed;
    let mut system = ProcessSystem::new(dispatcher_binary().unwrap());
    let server = Server::Own(own);
    let judged = judged_on(&mut system, schedule, databases, server, Overall::Pass).await;
    let totals = judged.totals;
    assert_eq!(judged.overall, Overall::Pass, "seed {seed}: {totals:?}");
    let ended = (totals.delivered, totals.dead, totals.lost);
    assert_eq!(ended, (totals.accepted, 0, 0), "seed {seed}");
    Some(judged)
}

// A short lease, so that an outage longer than the lease takes little time. Both runs are
// concurrent, because each of them mostly waits.
#[tokio::test(flavor = "multi_thread")]
async fn no_loss_with_postgres_faults() {
    let fresh = Seed::fresh();
    eprintln!("fresh seed {fresh}");
    let small = small();
    let profile = Profile {
        events: 150,
        storm_ms: 14_000,
        settings: Settings { lease_ms: 1_200, ..small.settings.clone() },
        ..small
    }
    .with_family(Family::Postgres, 1);
    let pinned = assert_no_loss_with_dedicated_postgres(Seed::new(0xdb), &profile);
    tokio::join!(pinned, assert_no_loss_with_dedicated_postgres(fresh, &profile));
}

// Faults from field reports, with a pinned seed and a new one. `coverage` requires the effect of
// each kind that was not skipped.
#[tokio::test(flavor = "multi_thread")]
async fn no_loss_with_field_faults() {
    let fresh = Seed::fresh();
    eprintln!("fresh seed {fresh}");
    let small = small();
    let profile = Profile {
        workers: 2,
        events: 250,
        storm_ms: 24_000,
        settings: Settings { max_api_connections: Some(API_CONNECTIONS), ..small.settings.clone() },
        ..small
    }
    .with_field_faults(1);
    let pinned = assert_no_loss_with_dedicated_postgres(Seed::new(0xf1e1d), &profile);
    tokio::join!(pinned, assert_no_loss_with_dedicated_postgres(fresh, &profile));
}

/// Time between two posts of a run with one fault, in milliseconds.
const MS_PER_EVENT: u64 = 45;

/// Storm of a run with one fault, in milliseconds.
const STORM_MS: u64 = 6_000;

/// Storm of a run with a fault that leaves the database usable, in milliseconds. On a loaded
/// machine, it takes effect after 10 s, and events are posted after that.
const STORM_MS_USABLE: u64 = 14_000;

/// Asserts that a run with one fault of this kind passes, and that this checker judged it. No other
/// fault explains a wait or a lost response. Returns nothing if the run is skipped.
async fn assert_judged_by(checker: &str, kind: &Kind, storm_ms: u64) -> Option<Judged> {
    let small = small();
    let profile = Profile {
        workers: 2,
        events: u32::try_from(storm_ms / MS_PER_EVENT).unwrap(),
        storm_ms,
        settings: Settings { max_api_connections: Some(API_CONNECTIONS), ..small.settings.clone() },
        ..small
    };
    let mut schedule = Schedule::generate(Seed::fresh(), &profile.with_fault(kind, 1));
    // The fault ends before the last post.
    schedule.faults[0].trigger.at_ms = 1_000;
    let judged = assert_no_loss_on_dedicated_postgres(&schedule).await?;
    let finding = judged.findings.iter().find(|finding| finding.checker == checker);
    assert!(finding.is_some_and(|finding| finding.verdict.is_valid()), "{}", judged.checks_text());
    Some(judged)
}

/// How long the fault waits for warnings that do not come, in microseconds.
const UNWARNED_US: u64 = 26_000_000;

/// The history without its warnings. Everything from the end of the fault on is later.
fn without_warnings(history: &History) -> History {
    let entries = history.entries().iter();
    let ends = entries.clone().filter(|entry| matches!(entry.op, Op::FaultEnd(_)));
    let end_us = ends.map(|entry| entry.t).min().unwrap();
    let kept = entries.filter(|entry| !matches!(entry.op, Op::ClockWarning(_)));
    History::from_ops(kept.map(|entry| {
        let late_us = if entry.t < end_us { 0 } else { UNWARNED_US };
        (entry.t + late_us, entry.op.clone())
    }))
}

// The forged history is that of a dispatcher that does not warn. The saboteurs cannot show this,
// because their fake dispatcher compares no clocks.
#[tokio::test(flavor = "multi_thread")]
async fn moved_clock_of_the_database_is_reported() {
    if let Err(reason) = OwnServer::clock_available() {
        return skipped(&format!("a moved clock of the database: {reason}"));
    }
    let Some(judged) = assert_judged_by("clock_reported", &ClockOffset::KIND, STORM_MS).await
    else {
        return;
    };
    assert_eq!(invalid_checkers(&without_warnings(&judged.history)), ["clock_reported"]);
}

fn invalid_checkers(history: &History) -> Vec<String> {
    let findings = judge(history, Tier::Real).into_iter();
    let invalid = findings.filter(|finding| finding.verdict.is_invalid());
    invalid.map(|finding| finding.checker.to_string()).collect()
}

// A saboteur cannot leak either, because its fake dispatcher is no process.
#[tokio::test(flavor = "multi_thread")]
async fn leaked_descriptors_and_memory_are_detected() {
    let profile = Profile { events: 20, storm_ms: 1_000, ..small() };
    let url = db::cluster().await.create_database("leak").await.unwrap();
    let databases = BTreeMap::from([(Section::Main, url)]);
    let schedule = Schedule::generate(Seed::fresh(), &profile);
    let mut system = ProcessSystem::new(dispatcher_binary().unwrap());
    let judged = judged(&mut system, &schedule, databases, Overall::Pass).await;
    assert_eq!(judged.overall, Overall::Pass, "{}", judged.checks_text());
    let forged = |leak: fn(&mut Usage)| {
        History::from_ops(judged.history.entries().iter().map(|entry| {
            let mut op = entry.op.clone();
            if let Op::Usage(usage) = &mut op {
                leak(usage);
            }
            (entry.t, op)
        }))
    };
    let descriptors = forged(|usage| usage.descriptors += 10_000);
    assert_eq!(invalid_checkers(&descriptors), ["resources"]);
    let memory = forged(|usage| usage.resident_bytes += 1 << 30);
    assert_eq!(invalid_checkers(&memory), ["resources"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_backlog_of_one_target_delays_no_other_target() {
    assert_judged_by("isolation", &DeepBacklog::KIND, STORM_MS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_sent_while_connections_are_few() {
    assert_judged_by("availability", &FewConnections::KIND, STORM_MS_USABLE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_sent_while_dead_entries_are_kept() {
    assert_judged_by("availability", &HoldHorizon::KIND, STORM_MS_USABLE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crowd_without_a_key_leaves_health_and_other_clients_served() {
    assert_judged_by("served", &Crowd::KIND, STORM_MS).await;
}

/// Every fault of clients, with a pinned seed and a new one.
#[tokio::test(flavor = "multi_thread")]
async fn no_loss_with_client_faults() {
    let fresh = Seed::fresh();
    eprintln!("fresh seed {fresh}");
    let profile = Profile { workers: 2, ..small() }.with_family(Family::Client, 1);
    for seed in [Seed::new(0xc11e), fresh] {
        let mut system = ProcessSystem::new(dispatcher_binary().unwrap());
        assert_no_loss(&mut system, seed, &profile).await;
    }
}

/// Every fault of receivers, with a pinned seed and a new one. Both runs are concurrent, because
/// each of them mostly waits.
#[tokio::test(flavor = "multi_thread")]
async fn no_loss_with_receiver_faults() {
    let fresh = Seed::fresh();
    eprintln!("fresh seed {fresh}");
    let profile = Profile { workers: 2, events: 150, storm_ms: 9_000, ..small() }
        .with_family(Family::Receiver, 1);
    let proven = async |seed| {
        let mut system = ProcessSystem::new(dispatcher_binary().unwrap());
        assert_no_loss(&mut system, seed, &profile).await;
    };
    tokio::join!(proven(Seed::new(0x4ec3)), proven(fresh));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_events_with_planned_deaths_become_dead() {
    let profile = Profile::dead_letters().with_events(60);
    let schedule = Schedule::generate(Seed::new(0x00de_ad1e), &profile);
    let url = db::cluster().await.create_database("dead_letters").await;
    let databases = BTreeMap::from([(Section::Main, url.unwrap())]);
    let mut system = ProcessSystem::new(dispatcher_binary().unwrap());
    let judged = judged(&mut system, &schedule, databases, Overall::Pass).await;
    assert_eq!(judged.overall, Overall::Pass, "{}", judged.checks_text());
    assert_eq!(judged.totals.dead, schedule.deaths().len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_loss_with_sigkill_of_the_worker_container() {
    if let Err(reason) = ContainerSystem::available().await {
        let required = std::env::var("REQUIRE_CONTAINER").is_ok_and(|value| value == "1");
        assert!(!required, "REQUIRE_CONTAINER=1 is set, but no container runs: {reason}");
        skipped(&format!("SIGKILL of the worker container: {reason}"));
        return;
    }
    let binary = dispatcher_binary().unwrap();
    let mut system = ContainerSystem::new(binary).await.unwrap();
    assert_no_loss(&mut system, Seed::new(0xc0de), &kills()).await;
}

/// Writes past the test runner, which hides the output of a passing test.
fn skipped(part: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "skipped: {part}");
}
