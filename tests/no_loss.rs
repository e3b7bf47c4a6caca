//! No accepted event is lost: the real dispatcher under faults, against a real Postgres.
//!
//! Proven by what clients were told (202) and what receivers wrote down, through every checker of the
//! harness; the bound is the drain's, computed from the plan. Seeds are pinned; a failure prints the
//! checks and keeps its directory.

use std::collections::BTreeMap;

use chaos::binary::dispatcher_binary;
use chaos::checker::Overall;
use chaos::command::prove;
use chaos::history::facts::OF_RECEIVERS;
use chaos::history::op::Section;
use chaos::postgres::{OwnServer, Wanted};
use chaos::profile::{Profile, Settings};
use chaos::report::{Context, Judged};
use chaos::runner::Site;
use chaos::schedule::Schedule;
use chaos::seed::Seed;
use chaos::system::{ContainerSystem, ProcessSystem, System};

use crate::support::db;

/// A profile that is over in seconds.
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

/// A judged run on any system; its files stay when the verdict is not the expected one.
pub(crate) async fn judged<S: System>(
    system: &mut S,
    schedule: &Schedule,
    databases: BTreeMap<Section, String>,
    expected: Overall,
) -> Judged {
    let own_server = Err("the server of the tests is shared".to_owned());
    judged_on(system, schedule, (databases, own_server), expected).await
}

async fn judged_on<S: System>(
    system: &mut S,
    schedule: &Schedule,
    (databases, own_server): (BTreeMap<Section, String>, Result<OwnServer, String>),
    expected: Overall,
) -> Judged {
    let directory = tempfile::tempdir().unwrap().keep();
    let about = Context {
        system: system.describe(),
        ..Context::default()
    };
    let site = Site {
        dir: directory.clone(),
        databases,
        own_server,
    };
    let judged = prove(system, schedule, site, &about).await;
    let judged = judged.unwrap_or_else(|error| panic!("{error:#}; see {}", directory.display()));
    if judged.overall == expected {
        std::fs::remove_dir_all(&directory).unwrap();
    } else {
        eprintln!("{}files: {}", judged.checks_text(), directory.display());
    }
    judged
}

async fn assert_nothing_is_lost<S: System>(system: &mut S, seed: Seed, profile: &Profile) {
    let url = db::cluster()
        .await
        .create_database("no_loss")
        .await
        .unwrap();
    let databases = BTreeMap::from([(Section::Main, url)]);
    let schedule = Schedule::generate(seed, profile);
    let judged = judged(system, &schedule, databases, Overall::Pass).await;
    let totals = judged.totals;
    assert_eq!(judged.overall, Overall::Pass, "seed {seed}: {totals:?}");
    assert_eq!(
        (totals.delivered, totals.dead, totals.lost),
        (totals.accepted, 0, 0)
    );
    assert!(totals.kills >= u64::from(profile.kills_required));
}

/// More kills than must hit: whether one hits an open request is up to the moment, and one at the end
/// of an answer may find none.
fn kills() -> Profile {
    Profile {
        events: 80,
        storm_ms: 6_000,
        kills: 5,
        kills_required: 2,
        ..small()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_event_is_lost_to_receivers_that_fail_delay_hang_and_reset() {
    let mut system = ProcessSystem::new(dispatcher_binary().unwrap());
    assert_nothing_is_lost(&mut system, Seed::new(0xfa11), &small()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_event_is_lost_to_sigkill_of_the_worker_process() {
    let mut system = ProcessSystem::new(dispatcher_binary().unwrap());
    assert_nothing_is_lost(&mut system, Seed::new(0xdead), &kills()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_event_is_lost_to_sigkill_of_one_of_two_workers_of_a_database() {
    let mut system = ProcessSystem::new(dispatcher_binary().unwrap());
    let profile = Profile {
        workers: 2,
        kills_required: 1,
        ..kills()
    };
    assert_nothing_is_lost(&mut system, Seed::new(0x2_dead), &profile).await;
}

/// Every fault of workers but the kills, under a pinned seed and a fresh one.
#[tokio::test(flavor = "multi_thread")]
async fn no_event_is_lost_to_workers_that_stand_still_stop_crash_and_scale() {
    let fresh = Seed::fresh();
    eprintln!("fresh seed {fresh}");
    let profile = Profile {
        workers: 2,
        storm_ms: 8_000,
        ..small()
    }
    .with_family("worker.", 1);
    for seed in [Seed::new(0x570b), fresh] {
        let mut system = ProcessSystem::new(dispatcher_binary().unwrap());
        assert_nothing_is_lost(&mut system, seed, &profile).await;
    }
}

/// Every fault of links, and kills at what passes on them, under a pinned seed and a fresh one.
#[tokio::test(flavor = "multi_thread")]
async fn no_event_is_lost_to_links_that_are_late_swallow_reset_and_lose_replies() {
    let fresh = Seed::fresh();
    eprintln!("fresh seed {fresh}");
    let profile = Profile {
        workers: 2,
        events: 80,
        storm_ms: 10_000,
        kills: 1,
        ..small()
    }
    .with_family("net.", 1);
    for seed in [Seed::new(0x11_4e7), fresh] {
        let mut system = ProcessSystem::new(dispatcher_binary().unwrap());
        assert_nothing_is_lost(&mut system, seed, &profile).await;
    }
}

/// On a server of the run's own; nothing where none can be had.
async fn assert_nothing_is_lost_by_postgres(seed: Seed, profile: &Profile) {
    let mut own = match OwnServer::start(&Wanted::Any, true).await {
        Ok(own) => own,
        Err(why) => return skipped(&format!("faults of Postgres itself: {why}")),
    };
    let url = own.create_database("no_loss").await.unwrap();
    let databases = BTreeMap::from([(Section::Main, url)]);
    let schedule = Schedule::generate(seed, profile);
    let mut system = ProcessSystem::new(dispatcher_binary().unwrap());
    let on = (databases, Ok(own));
    let judged = judged_on(&mut system, &schedule, on, Overall::Pass).await;
    let totals = judged.totals;
    assert_eq!(judged.overall, Overall::Pass, "seed {seed}: {totals:?}");
    let ended = (totals.delivered, totals.dead, totals.lost);
    assert_eq!(ended, (totals.accepted, 0, 0), "seed {seed}");
}

// A lease so short that an outage which outlasts it takes little time. Both runs at once: most of each is waiting.
#[tokio::test(flavor = "multi_thread")]
async fn no_event_is_lost_to_a_postgres_that_is_killed_held_cut_off_and_full() {
    let fresh = Seed::fresh();
    eprintln!("seed {fresh}");
    let small = small();
    let profile = Profile {
        events: 150,
        storm_ms: 14_000,
        settings: Settings {
            lease_ms: 1_200,
            ..small.settings.clone()
        },
        ..small
    }
    .with_family("postgres.", 1);
    let pinned = assert_nothing_is_lost_by_postgres(Seed::new(0xdb), &profile);
    tokio::join!(pinned, assert_nothing_is_lost_by_postgres(fresh, &profile));
}

/// Every fault of clients, under a pinned seed and a fresh one.
#[tokio::test(flavor = "multi_thread")]
async fn no_event_is_lost_to_clients_that_crowd_one_key_break_off_dawdle_burst_and_give_up() {
    let fresh = Seed::fresh();
    eprintln!("fresh seed {fresh}");
    let profile = Profile {
        workers: 2,
        ..small()
    }
    .with_family("client.", 1);
    for seed in [Seed::new(0xc11e), fresh] {
        let mut system = ProcessSystem::new(dispatcher_binary().unwrap());
        assert_nothing_is_lost(&mut system, seed, &profile).await;
    }
}

/// Every fault of receivers, under a pinned seed and a fresh one. Both at once: most of each is waiting.
#[tokio::test(flavor = "multi_thread")]
async fn no_event_is_lost_to_receivers_that_hang_refuse_and_flap() {
    let fresh = Seed::fresh();
    eprintln!("fresh seed {fresh}");
    let profile = Profile {
        workers: 2,
        events: 150,
        storm_ms: 9_000,
        ..small()
    }
    .with_family(OF_RECEIVERS, 1);
    let proven = async |seed| {
        let mut system = ProcessSystem::new(dispatcher_binary().unwrap());
        assert_nothing_is_lost(&mut system, seed, &profile).await;
    };
    tokio::join!(proven(Seed::new(0x4ec3)), proven(fresh));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_die_of_what_the_plan_says_and_no_other_does() {
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
async fn no_event_is_lost_to_sigkill_of_the_worker_container() {
    if let Err(why) = ContainerSystem::available().await {
        let required = std::env::var("REQUIRE_CONTAINER").is_ok_and(|value| value == "1");
        assert!(
            !required,
            "SIGKILL of the worker container is required here: {why}"
        );
        skipped(&format!("SIGKILL of the worker container: {why}"));
        return;
    }
    let binary = dispatcher_binary().unwrap();
    let mut system = ContainerSystem::new(binary).await.unwrap();
    assert_nothing_is_lost(&mut system, Seed::new(0xc0de), &kills()).await;
}

/// Past the test runner, which keeps the output of a passing test to itself.
fn skipped(what: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "SKIPPED {what}");
}
