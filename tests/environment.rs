//! Where the harness's Postgres and workers come from, tried for real: servers of our own, the two
//! drivers, and what is left behind (nothing).

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use chaos::binary::dispatcher_binary;
use chaos::postgres::{Postgres, Wanted, holder_of};
use chaos::system::{
    AnySystem, ContainerSystem, ProcessSystem, System, WorkerSpec, free_port, status_of,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::{Connection, PgConnection};

use crate::support::db::cluster;

/// Generous: what is asserted is the outcome.
const GUARD: Duration = Duration::from_secs(60);

#[tokio::test]
async fn two_databases_of_one_server_are_separate() {
    let one = cluster()
        .await
        .create_database("environment")
        .await
        .expect("a database");
    let other = cluster()
        .await
        .create_database("environment")
        .await
        .expect("a database");
    assert_ne!(one, other);

    let mut one = connect(&one).await;
    sqlx::raw_sql("create table only_here (id int)")
        .execute(&mut one)
        .await
        .expect("a table");
    let mut other = connect(&other).await;
    let seen: Option<String> = sqlx::query_scalar("select to_regclass('only_here')::text")
        .fetch_one(&mut other)
        .await
        .expect("an answer");
    assert_eq!(seen, None);
}

#[tokio::test]
async fn a_database_that_exists_is_found_again() {
    let name = format!("kept_{}", std::process::id());
    let first = cluster()
        .await
        .ensure_database(&name)
        .await
        .expect("a database");
    let second = cluster()
        .await
        .ensure_database(&name)
        .await
        .expect("the same database");
    assert_eq!(first, second);
}

/// A server that loses what it acknowledged would prove nothing about a dispatcher on top of it.
#[tokio::test]
async fn the_server_keeps_what_it_acknowledges() {
    let mut admin = connect(cluster().await.admin_url()).await;
    for setting in ["fsync", "full_page_writes", "synchronous_commit"] {
        let value: String = sqlx::query_scalar("select current_setting($1)")
            .bind(setting)
            .fetch_one(&mut admin)
            .await
            .expect("the setting");
        assert_eq!(value, "on", "{setting}");
    }
    let origin = cluster().await.origin();
    assert!(
        origin.contains("fsync on") && !origin.contains('\n'),
        "{origin}"
    );
}

#[tokio::test]
async fn a_way_that_fails_names_its_reason_and_its_fix_and_no_password() {
    let nowhere = format!("postgresql://someone:secret@127.0.0.1:{}/none", free_port());
    let error = Postgres::obtain(Wanted::Url(nowhere))
        .await
        .expect_err("nobody listens there");
    let text = error.to_string();
    assert!(
        text.contains("url: postgresql://someone:***@127.0.0.1"),
        "{text}"
    );
    assert!(text.contains("fix: "), "{text}");
    assert!(!text.contains("secret"), "{text}");
}

#[tokio::test]
async fn a_server_of_our_own_leaves_no_process_and_no_directory() {
    let postgres = match Postgres::obtain(Wanted::Machine).await {
        Ok(postgres) => postgres,
        Err(reason) => return skipped("a server of the machine's binaries", &reason.to_string()),
    };
    let pid = postgres.pid().expect("it is a process");
    let data = postgres
        .data_dir()
        .expect("it has a directory")
        .to_path_buf();
    assert!(data.join("PG_VERSION").is_file());
    drop(postgres);
    assert!(!is_alive(pid));
    assert!(!data.parent().expect("data has a parent").exists());
}

/// The pid file of a server that was killed stays behind; the next start must not mind it.
#[tokio::test]
async fn a_kept_cluster_survives_the_killing_of_its_server() {
    let base = tempfile::tempdir().expect("a directory");
    open_to_all(base.path());
    let kept = base.path().join("postgres");
    let postgres = match Postgres::machine_at(&kept).await {
        Ok(postgres) => postgres,
        Err(reason) => return skipped("a kept cluster", &reason.to_string()),
    };
    let url = postgres.ensure_database("kept").await.expect("a database");
    let mut connection = connect(&url).await;
    sqlx::raw_sql("create table written as select 42 as answer")
        .execute(&mut connection)
        .await
        .expect("a row");
    let pid = postgres.pid().expect("it is a process");
    kill(
        Pid::from_raw(i32::try_from(pid).expect("a pid")),
        Signal::SIGKILL,
    )
    .expect("a kill");
    drop(postgres);
    assert!(
        kept.join("data/postmaster.pid").exists(),
        "the stale pid file is what is tried"
    );

    let again = Postgres::machine_at(&kept)
        .await
        .expect("the cluster starts again");
    let url = again
        .ensure_database("kept")
        .await
        .expect("the database is there");
    let answer: i32 = sqlx::query_scalar("select answer from written")
        .fetch_one(&mut connect(&url).await)
        .await
        .expect("the row is there");
    assert_eq!(answer, 42);

    assert_eq!(
        holder_of(&kept),
        again.pid(),
        "nobody else may start there now"
    );
    drop(again);
    assert_eq!(holder_of(&kept), None);
}

#[tokio::test]
async fn a_worker_process_can_be_killed_paused_and_ended() {
    let program = dispatcher_binary().expect("the dispatcher builds");
    put_through_its_paces(AnySystem::Process(ProcessSystem::new(program))).await;
}

#[tokio::test]
async fn a_worker_container_can_be_killed_paused_and_ended_and_leaves_nothing() {
    if let Err(reason) = ContainerSystem::available().await {
        let required = std::env::var("REQUIRE_CONTAINER").is_ok_and(|value| value == "1");
        assert!(!required, "REQUIRE_CONTAINER=1, and no container: {reason}");
        return skipped("a worker container", &reason);
    }
    let program = dispatcher_binary().expect("the dispatcher builds");
    let system = ContainerSystem::new(program)
        .await
        .expect("the image builds");
    put_through_its_paces(AnySystem::Container(system)).await;
}

/// Everything a run does to a worker, on the real dispatcher.
async fn put_through_its_paces(mut system: AnySystem) {
    let logs = tempfile::tempdir().expect("a directory");
    let database = cluster()
        .await
        .create_database("drivers")
        .await
        .expect("a database");
    let spec = WorkerSpec {
        name: "w0".to_owned(),
        env: BTreeMap::from([("DATABASE_URL".to_owned(), database)]),
        bind: ([127, 0, 0, 1], free_port()).into(),
        log: logs.path().join("w0.log"),
    };
    system.start(&spec).await.expect("it starts");
    system
        .wait_ready("w0", GUARD)
        .await
        .expect("it becomes ready");
    let restarted = system.start(&spec).await;
    assert!(restarted.is_err(), "a running worker is not started twice");

    system.pause("w0").await.expect("it pauses");
    let asked = tokio::time::timeout(Duration::from_millis(200), status_of(spec.bind, "/livez"));
    assert!(asked.await.is_err(), "a paused worker answers nothing");
    assert!(system.is_running("w0"));
    system.resume("w0").await.expect("it resumes");
    system
        .wait_ready("w0", GUARD)
        .await
        .expect("it answers again");

    system.pause("w0").await.expect("it pauses");
    let exit = system
        .kill("w0")
        .await
        .expect("a paused worker can be killed");
    assert_eq!(exit.signal, Some(9));
    assert!(!system.is_running("w0"));
    assert!(
        status_of(spec.bind, "/livez").await.is_err(),
        "it is dead when kill returns"
    );

    system
        .start(&spec)
        .await
        .expect("it starts again on its port");
    system
        .wait_ready("w0", GUARD)
        .await
        .expect("it becomes ready again");
    let exit = system.terminate("w0", GUARD).await.expect("it ends");
    assert!(exit.is_clean(), "{exit}");
    system.stop_all().await.expect("nothing is left to stop");
    let log = std::fs::read_to_string(&spec.log).expect("its output was kept");
    assert!(!log.is_empty());
}

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url)
        .await
        .expect("the server answers")
}

fn is_alive(pid: u32) -> bool {
    kill(Pid::from_raw(i32::try_from(pid).expect("a pid")), None).is_ok()
}

/// The account that runs the server as root's must be able to walk here.
fn open_to_all(directory: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mode = PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(directory, mode).expect("it is ours");
}

fn skipped(what: &str, reason: &str) {
    // The test runner shows this with --nocapture; the proof's footer says it in any case.
    eprintln!("skipped: {what}: {reason}");
}
