//! The process: its log, its signals and its clock. Each test runs the binary as `dispatcher
//! worker`.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Write};
use std::process::Stdio;

use chaos::binary::dispatcher_binary;
use chaos::host::free_port;
use dispatcher::Role;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::support::app::{self, App, WAIT_MAX, until};
use crate::support::db;
use crate::support::fixture::Endpoint;
use crate::support::gated::Gated;
use crate::support::view::outcomes;

/// A worker process, and an API in this process over the same database.
struct Running {
    api: App,
    worker: Child,
    /// `BIND` of the worker.
    address: String,
}

impl Running {
    /// Starts a worker. `prepare` is a line of shell that runs before it.
    async fn start(
        database: &str,
        own: &[(&str, &str)],
        prepare: &str,
        output: impl Into<Stdio>,
        errors: impl Into<Stdio>,
    ) -> Self {
        let api = App::over(database, Role::Api, &[]).await;
        let address = format!("127.0.0.1:{}", free_port());
        let program = dispatcher_binary().expect("the binary can be built");
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("{prepare}\nexec \"$0\" worker")])
            .arg(program)
            .env_clear()
            .envs(app::settings(database, own))
            .env("BIND", &address)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .kill_on_drop(true);
        let worker = command.spawn().expect("the process starts");
        Self { api, worker, address }
    }

    fn signal(&self, signal: Signal) {
        let pid = self.worker.id().expect("the process runs");
        let pid = Pid::from_raw(i32::try_from(pid).expect("the pid is positive"));
        kill(pid, signal).expect("the process can be signalled");
    }

    /// Waits for the exit and returns the exit code, or `None` after a signal.
    async fn exit_code(&mut self) -> Option<i32> {
        let exit = timeout(WAIT_MAX, self.worker.wait()).await;
        exit.expect("the process exits").unwrap().code()
    }

    async fn sample(&self, name: &str) -> f64 {
        let url = format!("http://{}/metrics", self.address);
        let response = self.api.client.get(url).send().await;
        let text = response.expect("the worker responds").text().await.unwrap();
        let sample = text.lines().find_map(|line| line.strip_prefix(name));
        let sample = sample.unwrap_or_else(|| panic!("{name} is not in {text}"));
        sample.trim().parse().expect("the sample is a number")
    }
}

/// Delivers one event and stops, although the log goes nowhere.
async fn assert_works(prepare: &str, output: impl Into<Stdio>, errors: impl Into<Stdio>) {
    let (database, endpoint) = (db::database().await, Endpoint::responding_with(200).await);
    let mut running = Running::start(&database, &[], prepare, output, errors).await;
    let id = running.api.accept("1", &endpoint.url(0)).await;
    let event = running.api.event_with_status(&id, "delivered").await;
    assert_eq!(outcomes(&event), ["delivered"]);
    running.signal(Signal::SIGTERM);
    assert_eq!(running.exit_code().await, Some(0));
    running.api.stop().await;
}

fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().expect("a pipe can be created");
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    while writer.write(&[0; 4096]).is_ok() {}
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    (reader, writer)
}

// No byte fits into the pipe, so the first write to it blocks.
#[tokio::test]
async fn unread_log_stops_neither_deliveries_nor_the_stop() {
    let (_unread, pipe) = full_pipe();
    assert_works("", pipe.try_clone().unwrap(), pipe).await;
}

#[tokio::test]
async fn log_whose_reader_has_exited_stops_no_delivery() {
    let (reader, pipe) = std::io::pipe().unwrap();
    drop(reader);
    assert_works("", pipe.try_clone().unwrap(), pipe).await;
}

#[tokio::test]
async fn stdout_and_stderr_closed_at_start_stop_no_delivery() {
    assert_works("exec >&- 2>&-", Stdio::inherit(), Stdio::inherit()).await;
}

// A write beyond the limit raises SIGXFSZ, whose default action ends the process.
#[tokio::test]
async fn log_file_at_its_size_limit_stops_no_delivery() {
    let file = tempfile::tempfile().unwrap();
    assert_works("ulimit -f 0", file.try_clone().unwrap(), file).await;
}

// Every write to /dev/full fails with ENOSPC.
#[tokio::test]
async fn full_disk_drops_log_lines_and_counts_them() {
    let full = || File::options().write(true).open("/dev/full").unwrap();
    assert_works("", full(), full()).await;

    let database = db::database().await;
    let running = Running::start(&database, &[], "", full(), full()).await;
    let api = &running.api;
    until("the worker serves", || async {
        let url = format!("http://{}/livez", running.address);
        api.client.get(url).send().await.is_ok()
    })
    .await;
    until("the dropped lines are counted", || async {
        running.sample("webhook_log_lines_dropped_total").await > 0.0
    })
    .await;
    running.api.stop().await;
}

/// A log file, and its text so far.
fn log_file() -> (File, impl Fn() -> String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let output = file.reopen().unwrap();
    (output, move || std::fs::read_to_string(file.path()).unwrap())
}

// The receiver responds only after the stop has begun. If the signal ended the process, the attempt
// would be abandoned.
#[tokio::test]
async fn each_stop_signal_settles_open_attempts() {
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM] {
        let (database, receiver) = (db::database().await, Gated::start().await);
        let (output, log) = log_file();
        let errors = output.try_clone().unwrap();
        let mut running = Running::start(&database, &[], "", output, errors).await;
        let id = running.api.accept("1", &receiver.url()).await;
        until("the attempt is open", || async { receiver.arrived() == 1 }).await;
        running.signal(signal);
        until("the stop has begun", || async { log().contains("stopping") }).await;
        receiver.open();
        assert_eq!(running.exit_code().await, Some(0), "{signal}: {}", log());
        let event = running.api.event(&id).await;
        assert_eq!(outcomes(&event), ["delivered"], "{signal}");
        assert!(!log().contains("clock of the database"), "{}", log());
        running.api.stop().await;
    }
}

// The attempt is open for the whole test, so only the second signal can end the process.
#[tokio::test]
async fn second_signal_ends_the_process_immediately() {
    let (database, receiver) = (db::database().await, Gated::start().await);
    let (output, log) = log_file();
    let errors = output.try_clone().unwrap();
    let own = [("HTTP_TIMEOUT", "3600"), ("SHUTDOWN_SECONDS", "3600")];
    let mut running = Running::start(&database, &own, "", output, errors).await;
    running.api.accept("1", &receiver.url()).await;
    until("the attempt is open", || async { receiver.arrived() == 1 }).await;
    running.signal(Signal::SIGHUP);
    until("the stop has begun", || async { log().contains("stopping") }).await;
    running.signal(Signal::SIGQUIT);
    assert_eq!(running.exit_code().await, Some(130), "{}", log());
    running.api.stop().await;
}

/// `now()` of this schema is ten minutes ahead.
const WRONG_CLOCK: &str = "
create schema wrong;
create function wrong.now() returns timestamptz language sql stable
    as 'select pg_catalog.now() + interval ''10 minutes''';
do $$ begin
    execute format('alter database %I set search_path = public, wrong, pg_catalog',
                   current_database());
end $$";

// Receivers refuse timestamps that are more than 300 s off, so the process signs with its own
// clock. The rest works with any clock of the database.
#[tokio::test]
async fn wrong_clock_of_the_database_is_reported_and_signs_nothing() {
    let (database, endpoint) = (db::database().await, Endpoint::responding_with(200).await);
    let pool = db::pool(&database).await;
    sqlx::raw_sql(WRONG_CLOCK).execute(&pool).await.unwrap();
    let (output, log) = log_file();
    let errors = output.try_clone().unwrap();
    let running = Running::start(&database, &[], "", output, errors).await;
    let id = running.api.accept("1", &endpoint.url(0)).await;
    let event = running.api.event_with_status(&id, "delivered").await;
    assert_eq!(outcomes(&event), ["delivered"]);
    let receipt = &endpoint.journal.receipts()[0];
    assert!(receipt.signature.is_valid(), "{:?}", receipt.signature);
    until("the difference is logged", || async {
        log().contains("WARN the clock of the database differs")
    })
    .await;
    let offset_s = running.sample("webhook_database_clock_offset_seconds").await;
    assert!((590.0..=600.0).contains(&offset_s), "{offset_s}");
    running.api.stop().await;
}
