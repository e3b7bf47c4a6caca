//! The parts of a run environment: Postgres servers and the two drivers of workers.
//!
//! The tests start real servers, processes and containers, and check that none of them remains.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use chaos::binary::dispatcher_binary;
use chaos::host::free_port;
use chaos::postgres::{OwnParts, OwnServer, OwnServerError, Postgres, Wanted, holder_of};
use chaos::system::{AnySystem, ContainerSystem, ProcessSystem, System, WorkerSpec, status_of};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::{Connection, PgConnection};

use crate::support::db::cluster;

/// Long, because the tests assert the outcome and not the time.
const READY_MAX: Duration = Duration::from_secs(60);

#[tokio::test]
async fn databases_of_one_server_are_separate() {
    let one =
        cluster().await.create_database("environment").await.expect("the database can be created");
    let other =
        cluster().await.create_database("environment").await.expect("the database can be created");
    assert_ne!(one, other);

    let mut one = connect(&one).await;
    sqlx::raw_sql("create table only_here (id int)")
        .execute(&mut one)
        .await
        .expect("the table can be created");
    let mut other = connect(&other).await;
    let seen: Option<String> = sqlx::query_scalar("select to_regclass('only_here')::text")
        .fetch_one(&mut other)
        .await
        .expect("the query succeeds");
    assert_eq!(seen, None);
}

#[tokio::test]
async fn existing_database_is_found_again() {
    let name = format!("kept_{}", std::process::id());
    let first = cluster().await.ensure_database(&name).await.expect("the database can be created");
    let second = cluster().await.ensure_database(&name).await.expect("the database can be found");
    assert_eq!(first, second);
}

/// With these settings off, an acknowledged commit may be lost, and a run would prove nothing.
#[tokio::test]
async fn server_settings_make_acknowledged_commits_durable() {
    let mut admin = connect(cluster().await.admin_url()).await;
    for setting in ["fsync", "full_page_writes", "synchronous_commit"] {
        let value: String = sqlx::query_scalar("select current_setting($1)")
            .bind(setting)
            .fetch_one(&mut admin)
            .await
            .expect("the setting can be read");
        assert_eq!(value, "on", "{setting}");
    }
    let origin = cluster().await.origin();
    assert!(origin.contains("fsync on") && !origin.contains('\n'), "{origin}");
}

#[tokio::test]
async fn postgres_error_names_reason_and_fix_but_no_password() {
    let closed_port = format!("postgresql://someone:secret@127.0.0.1:{}/none", free_port());
    let error = Postgres::obtain(Wanted::Url(closed_port))
        .await
        .expect_err("no server listens on the port");
    let text = error.to_string();
    assert!(text.contains("url: postgresql://someone:***@127.0.0.1"), "{text}");
    assert!(text.contains("fix: "), "{text}");
    assert!(!text.contains("secret"), "{text}");
}

#[tokio::test]
async fn dedicated_server_leaves_no_process_and_no_directory() {
    let postgres = match Postgres::obtain(Wanted::Machine).await {
        Ok(postgres) => postgres,
        Err(reason) => return skipped("a server from the machine's binaries", &reason.to_string()),
    };
    let pid = postgres.pid().expect("the server is a process");
    let data = postgres.data_dir().expect("the server has a data directory").to_path_buf();
    assert!(data.join("PG_VERSION").is_file());
    drop(postgres);
    assert!(!is_alive(pid));
    assert!(!data.parent().expect("the data directory has a parent").exists());
}

// A fault moves the clock, and a later fault may restart the server.
#[tokio::test]
async fn moved_clock_of_a_dedicated_server_survives_a_restart() {
    const STEP_S: i64 = 600;
    if let Err(reason) = OwnServer::clock_available() {
        return skipped("a clock that can be moved", &reason);
    }
    let parts = OwnParts { clock: true, ..OwnParts::default() };
    let mut own = match OwnServer::start(&Wanted::Machine, parts).await {
        Ok(own) => own,
        Err(error) => return skipped("a dedicated server", &error.to_string()),
    };
    let before_us = own.clock_us().await.expect("the server responds");
    own.move_clock(STEP_S).expect("the offset can be written");
    let moved_us = own.clock_us().await.expect("the server responds");
    assert!(moved_us - before_us >= STEP_S * 1_000_000);
    own.stop_at_once().await.expect("the server ends");
    own.bring_up().await.expect("the server starts again");
    let restarted_us = own.clock_us().await.expect("the server responds");
    assert!(restarted_us > moved_us);
}

#[tokio::test]
async fn clock_of_a_server_without_that_part_cannot_be_moved() {
    match OwnServer::start(&Wanted::Machine, OwnParts::default()).await {
        Ok(mut own) => {
            let refused = own.move_clock(1).expect_err("the server has no such clock");
            assert!(matches!(refused, OwnServerError::NotHere(_)), "{refused}");
        }
        Err(error) => skipped("a dedicated server", &error.to_string()),
    }
}

/// A killed server leaves its pid file. The next start must ignore it.
#[tokio::test]
async fn kept_cluster_starts_again_after_sigkill() {
    let base = tempfile::tempdir().expect("the directory can be created");
    open_to_all(base.path());
    let kept = base.path().join("postgres");
    let postgres = match Postgres::machine_at(&kept).await {
        Ok(postgres) => postgres,
        Err(reason) => return skipped("a kept cluster", &reason.to_string()),
    };
    let url = postgres.ensure_database("kept").await.expect("the database can be created");
    let mut connection = connect(&url).await;
    sqlx::raw_sql("create table written as select 42 as answer")
        .execute(&mut connection)
        .await
        .expect("the row can be written");
    let pid = postgres.pid().expect("the server is a process");
    kill(Pid::from_raw(i32::try_from(pid).expect("the pid is positive")), Signal::SIGKILL)
        .expect("the server can be killed");
    drop(postgres);
    assert!(kept.join("data/postmaster.pid").exists(), "the killed server left no pid file");

    let again = Postgres::machine_at(&kept).await.expect("the cluster starts again");
    let url = again.ensure_database("kept").await.expect("the database still exists");
    let response: i32 = sqlx::query_scalar("select answer from written")
        .fetch_one(&mut connect(&url).await)
        .await
        .expect("the row still exists");
    assert_eq!(response, 42);

    assert_eq!(holder_of(&kept), again.pid(), "the directory is in use by the new server");
    drop(again);
    assert_eq!(holder_of(&kept), None);
}

#[tokio::test]
async fn worker_process_can_be_killed_paused_and_terminated() {
    let program = dispatcher_binary().expect("the dispatcher builds");
    exercise(AnySystem::Process(ProcessSystem::new(program))).await;
}

#[tokio::test]
async fn worker_container_can_be_killed_paused_and_terminated() {
    if let Err(reason) = ContainerSystem::available().await {
        let required = std::env::var("REQUIRE_CONTAINER").is_ok_and(|value| value == "1");
        assert!(!required, "REQUIRE_CONTAINER=1 is set, but no container runs: {reason}");
        return skipped("a worker container", &reason);
    }
    let program = dispatcher_binary().expect("the dispatcher builds");
    let system = ContainerSystem::new(program).await.expect("the image builds");
    exercise(AnySystem::Container(system)).await;
}

/// Starts, pauses, resumes, kills, restarts and terminates a worker, as a run does.
async fn exercise(mut system: AnySystem) {
    let logs = tempfile::tempdir().expect("the directory can be created");
    let database =
        cluster().await.create_database("drivers").await.expect("the database can be created");
    let spec = WorkerSpec {
        name: "w0".to_owned(),
        env: BTreeMap::from([("DATABASE_URL".to_owned(), database)]),
        bind: ([127, 0, 0, 1], free_port()).into(),
        log: logs.path().join("w0.log"),
        hosts: None,
    };
    system.start(&spec).await.expect("the worker starts");
    system.wait_ready("w0", READY_MAX).await.expect("the worker becomes ready");
    let restarted = system.start(&spec).await;
    assert!(restarted.is_err(), "a running worker was started again");

    system.pause("w0").await.expect("the worker can be paused");
    let status = tokio::time::timeout(Duration::from_millis(200), status_of(spec.bind, "/livez"));
    assert!(status.await.is_err(), "a paused worker responded");
    assert!(system.is_running("w0"));
    system.resume("w0").await.expect("the worker can be resumed");
    system.wait_ready("w0", READY_MAX).await.expect("the worker responds again");

    system.pause("w0").await.expect("the worker can be paused");
    let exit = system.kill("w0").await.expect("a paused worker can be killed");
    assert_eq!(exit.signal, Some(9));
    assert!(!system.is_running("w0"));
    assert!(
        status_of(spec.bind, "/livez").await.is_err(),
        "the worker still responds after kill returned"
    );

    system.start(&spec).await.expect("the worker starts again on its port");
    system.wait_ready("w0", READY_MAX).await.expect("the worker becomes ready again");
    let exit = system.terminate("w0", READY_MAX).await.expect("the worker ends");
    assert!(exit.is_clean(), "{exit}");
    system.stop_all().await.expect("all workers are stopped");
    let log = std::fs::read_to_string(&spec.log).expect("the worker has a log");
    assert!(!log.is_empty());
}

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.expect("the server responds")
}

fn is_alive(pid: u32) -> bool {
    kill(Pid::from_raw(i32::try_from(pid).expect("the pid is positive")), None).is_ok()
}

/// If the tests run as root, the server runs as another account, which must enter the directory.
fn open_to_all(directory: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mode = PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(directory, mode).expect("the test owns the directory");
}

fn skipped(part: &str, reason: &str) {
    // Shown with `--nocapture`. The proof log of a run lists skipped parts in any case.
    eprintln!("skipped: {part}: {reason}");
}
