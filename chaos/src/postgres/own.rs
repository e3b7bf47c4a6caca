//! A dedicated server of one run. Faults may end its sessions and processes, pause it or fill its
//! disk.
//!
//! It is started from binaries of this machine, else from downloaded ones, and restarts on the same
//! port with its data. A container would restart on another port, and a server that was given is
//! never ended. This module must not depend on the dispatcher's tables.

mod clock;

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::PgConnection;
use tokio::time::{Instant, sleep, timeout};

use super::binaries::Binaries;
use super::downloaded;
use super::error::{FailedSource, PostgresError};
use super::handle::{Postgres, connect};
use super::machine::{Cluster, MovableClock, Place, SmallDisk};
use super::wanted::{Wanted, given_url};

/// Time limit of a connection attempt to a server that may be down or paused.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// Time limit for opening a session that a fault uses. It is longer than [`PROBE_TIMEOUT`]: on an
/// overloaded machine a shorter limit failed the fault, and the run had no verdict.
const SESSION_TIMEOUT: Duration = Duration::from_secs(30);
/// Time limit until a healed server accepts sessions. It may run crash recovery first.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// Pause between two connection attempts.
const CONNECT_INTERVAL: Duration = Duration::from_millis(20);

/// There is no dedicated server, or an operation on it failed.
#[derive(Debug, thiserror::Error)]
pub enum OwnServerError {
    /// The run has no dedicated server, or the server lacks a part. Contains the reason.
    #[error("{0}")]
    NotHere(String),
    /// An operation on the server failed.
    #[error("{doing}: {why}")]
    Failed {
        /// The operation, for example `pausing the server`.
        doing: &'static str,
        /// Error of the server or of the operating system.
        why: String,
    },
}

/// Parts of a dedicated server that only some faults need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnParts {
    /// The data is on a small disk, if one can be mounted here.
    pub small_disk: bool,
    /// The clock can be moved, if libfaketime is installed.
    pub clock: bool,
}

impl OwnParts {
    /// Every part.
    pub const ALL: Self = Self { small_disk: true, clock: true };
}

/// The dedicated server of a run. A fault may have ended or paused it.
#[derive(Debug)]
pub struct OwnServer {
    postgres: Postgres,
    /// URL of the run's database, after its creation.
    database: Option<String>,
    /// Processes that are paused, the postmaster first.
    paused: Vec<Pid>,
    /// The session that listed the processes. Its backend is one of them.
    listing_session: Option<PgConnection>,
    /// True if the server is a standby, or may be one when it is started again.
    is_standby: bool,
    /// Reason if the data is not on a small disk. `None` if it is.
    no_small_disk: Option<String>,
    /// Reason if the clock cannot be moved. `None` if it can.
    no_clock: Option<String>,
}

impl OwnServer {
    /// Starts a server with those of the wanted parts that this machine provides.
    ///
    /// # Errors
    /// If `wanted` excludes a dedicated server, or no binaries work.
    pub async fn start(wanted: &Wanted, parts: OwnParts) -> Result<Self, OwnServerError> {
        check_wanted(wanted)?;
        let of_machine = match wanted {
            Wanted::Downloaded => Err(Vec::new()),
            _ => {
                let binaries = Binaries::of_machine().await;
                start_with("machine", binaries, parts).await
            }
        };
        let mut failed = match of_machine {
            Ok(own) => return Ok(own),
            Err(failed) if *wanted == Wanted::Machine => return Err(none_available(failed)),
            Err(failed) => failed,
        };
        let binaries = downloaded::binaries().await;
        start_with("downloaded", binaries, parts).await.map_err(|more| {
            failed.extend(more);
            none_available(failed)
        })
    }

    /// Checks that a dedicated server can be started here. Downloads nothing, so it assumes that a
    /// download succeeds.
    ///
    /// # Errors
    /// Returns the reason if it cannot.
    pub async fn available(wanted: &Wanted) -> Result<(), String> {
        check_wanted(wanted).map_err(|error| error.to_string())?;
        if *wanted == Wanted::Downloaded {
            return Ok(());
        }
        let binaries = Binaries::of_machine().await;
        binaries.map(drop).map_err(|failed| failed.reason)
    }

    /// Checks that a small disk can be mounted here.
    ///
    /// # Errors
    /// Returns the reason if it cannot.
    pub fn small_disk_available() -> Result<(), String> {
        SmallDisk::available()
    }

    /// Returns the handle of the server.
    pub fn postgres(&self) -> &Postgres {
        &self.postgres
    }

    /// Creates the database of the run and returns its URL, which stays valid after every fault.
    ///
    /// # Errors
    /// If the server cannot be reached.
    pub async fn create_database(&mut self, prefix: &str) -> Result<String, PostgresError> {
        let url = self.postgres.create_database(prefix).await?;
        self.database = Some(url.clone());
        Ok(url)
    }

    /// Opens a session of the harness in the run's database.
    ///
    /// # Errors
    /// If the connection fails or takes longer than 30 s.
    pub async fn session(&self) -> Result<PgConnection, sqlx::Error> {
        self.session_within(SESSION_TIMEOUT).await
    }

    async fn session_within(&self, limit: Duration) -> Result<PgConnection, sqlx::Error> {
        let admin = self.postgres.admin_url();
        let url = self.database.as_deref().unwrap_or(admin);
        let connected = timeout(limit, connect(url)).await;
        connected.unwrap_or_else(|_| Err(sqlx::Error::PoolTimedOut))
    }

    /// Stops the server in an orderly way and starts it as a standby, which accepts no write.
    /// `bring_up` promotes it.
    ///
    /// # Errors
    /// If the server does not stop, or does not start as a standby.
    pub async fn become_standby(&mut self) -> Result<(), OwnServerError> {
        let operation = "restarting the server as a standby";
        let cluster = self.cluster();
        cluster.end_by(Signal::SIGINT).await.map_err(failed(operation))?;
        let signal = cluster.data_dir().join("standby.signal");
        std::fs::write(signal, "").map_err(failed(operation))?;
        self.is_standby = true;
        self.cluster().restart().await.map_err(failed(operation))
    }

    /// Promotes the server if it is a standby. Sessions stay open.
    async fn promote(&mut self) -> Result<(), OwnServerError> {
        if !self.is_standby {
            return Ok(());
        }
        let operation = "promoting the standby";
        let mut session = self.session().await.map_err(failed(operation))?;
        let promote = "select not pg_is_in_recovery() or pg_promote(true, 60)";
        let promoted = sqlx::query_scalar::<_, bool>(promote).fetch_one(&mut session);
        match promoted.await {
            Ok(true) => {
                self.is_standby = false;
                Ok(())
            }
            Ok(false) => Err(failed(operation)("not promoted within 60 s")),
            Err(error) => Err(failed(operation)(error)),
        }
    }

    /// Tries to connect. Returns the error, or `None` if the server accepts the session.
    pub async fn refusal(&self) -> Option<String> {
        match self.session_within(PROBE_TIMEOUT).await {
            Ok(_) => None,
            Err(sqlx::Error::PoolTimedOut) => {
                Some(format!("no response within {} s", PROBE_TIMEOUT.as_secs()))
            }
            Err(error) => Some(error.to_string()),
        }
    }

    /// Sends SIGKILL to one backend.
    ///
    /// # Errors
    /// If there is no such process.
    pub fn kill_backend(&self, pid: i32) -> Result<(), OwnServerError> {
        kill(Pid::from_raw(pid), Signal::SIGKILL).map_err(failed("killing a backend"))
    }

    /// Stops the server like `pg_ctl -m immediate`: without a checkpoint and without a message to
    /// the clients. Returns when the postmaster has ended.
    ///
    /// # Errors
    /// If it does not end within 10 s.
    pub async fn stop_at_once(&mut self) -> Result<(), OwnServerError> {
        let ended = self.cluster().end_by(Signal::SIGQUIT).await;
        ended.map_err(failed("stopping the server immediately"))
    }

    /// Sends SIGKILL to the postmaster and waits until it has ended. Its backends end when they
    /// detect that.
    ///
    /// # Errors
    /// If it does not end within 10 s.
    pub async fn kill(&mut self) -> Result<(), OwnServerError> {
        let ended = self.cluster().end_by(Signal::SIGKILL).await;
        ended.map_err(failed("killing the postmaster"))
    }

    /// Sends SIGSTOP to the postmaster, so that new connections hang. If `all` is true, also pauses
    /// every other process of the server.
    ///
    /// # Errors
    /// If the server has ended, or if listing or pausing its processes fails.
    pub async fn pause(&mut self, all: bool) -> Result<(), OwnServerError> {
        let operation = "pausing the server";
        let mut listing_session = self.session().await.map_err(failed(operation))?;
        let postmaster = self.postgres.pid().ok_or("the server has ended");
        let postmaster = postmaster.map_err(failed(operation))?;
        // The postmaster is first, so that it starts no process after the others are listed.
        self.pause_process(i32::try_from(postmaster).map_err(failed(operation))?)?;
        if all {
            // The backend that lists the processes is the last one.
            let sql = "select pid from pg_stat_activity order by pid = pg_backend_pid()";
            let listed = sqlx::query_scalar(sql).fetch_all(&mut listing_session);
            let pids: Vec<i32> = listed.await.map_err(failed(operation))?;
            for pid in pids {
                self.pause_process(pid)?;
            }
        }
        self.listing_session = Some(listing_session);
        Ok(())
    }

    fn pause_process(&mut self, pid: i32) -> Result<(), OwnServerError> {
        let pid = Pid::from_raw(pid);
        match kill(pid, Signal::SIGSTOP) {
            Ok(()) => self.paused.push(pid),
            // The session has ended since it was listed.
            Err(nix::errno::Errno::ESRCH) => {}
            Err(error) => return Err(failed("pausing a process of the server")(error)),
        }
        Ok(())
    }

    /// Ends a pause. Has no effect if there is none.
    pub fn resume(&mut self) {
        for pid in self.paused.drain(..) {
            // An error means that the process was killed during the pause.
            let _sent = kill(pid, Signal::SIGCONT);
        }
        self.listing_session = None;
    }

    /// Fills the small disk up to `spare_bytes` free bytes. Returns the number of bytes written.
    ///
    /// # Errors
    /// If the server has no small disk, or a write fails before the disk is full.
    pub fn fill_disk(&mut self, spare_bytes: u64) -> Result<u64, OwnServerError> {
        if let Some(reason) = &self.no_small_disk {
            return Err(OwnServerError::NotHere(reason.clone()));
        }
        let disk = self.cluster().disk().ok_or("there is no small disk");
        let disk = disk.map_err(failed("filling the small disk"))?;
        disk.fill(spare_bytes).map_err(failed("filling the small disk"))
    }

    /// Ends a pause, frees the disk, starts the server if it has ended, waits until it accepts
    /// sessions, and promotes a standby. Has no effect on a healthy server.
    ///
    /// # Errors
    /// If the server cannot be started or promoted, or accepts no session within 120 s.
    pub async fn bring_up(&mut self) -> Result<(), OwnServerError> {
        self.accept_sessions().await?;
        self.promote().await
    }

    async fn accept_sessions(&mut self) -> Result<(), OwnServerError> {
        self.resume();
        if let Some(disk) = self.cluster().disk() {
            disk.free().map_err(failed("freeing the small disk"))?;
        }
        if self.cluster().has_ended() {
            let started = self.cluster().restart().await;
            return started.map_err(failed("starting the server again"));
        }
        let deadline = Instant::now() + READY_TIMEOUT;
        while let Some(reason) = self.refusal().await {
            // A server that cannot recover exits.
            if self.cluster().has_ended() {
                let started = self.cluster().restart().await;
                return started.map_err(failed("starting the server again"));
            }
            if Instant::now() >= deadline {
                return Err(failed("waiting for the server")(reason));
            }
            sleep(CONNECT_INTERVAL).await;
        }
        Ok(())
    }

    fn cluster(&mut self) -> &mut Cluster {
        let cluster = self.postgres.cluster_mut();
        cluster.expect("a dedicated server is always started from binaries")
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        self.resume();
    }
}

async fn start_with(
    source: &'static str,
    binaries: Result<Binaries, FailedSource>,
    parts: OwnParts,
) -> Result<OwnServer, Vec<FailedSource>> {
    let binaries = binaries.map_err(|failed| vec![failed])?;
    let no_small_disk = match parts.small_disk {
        true => SmallDisk::available().err(),
        false => Some("the run requested no small disk".to_owned()),
    };
    let library = match parts.clock {
        true => MovableClock::library(),
        false => Err("the run requested no clock that can be moved".to_owned()),
    };
    let clock_library = library.as_ref().ok().cloned();
    let place = Place::Own { small_disk: no_small_disk.is_none(), clock_library };
    let postgres = Postgres::start(source, &binaries, place).await;
    Ok(OwnServer {
        postgres: postgres.map_err(|failed| vec![failed])?,
        database: None,
        paused: Vec::new(),
        listing_session: None,
        is_standby: false,
        no_small_disk,
        no_clock: library.err(),
    })
}

/// Refuses sources that cannot provide a dedicated server.
fn check_wanted(wanted: &Wanted) -> Result<(), OwnServerError> {
    let reason = match wanted {
        Wanted::Url(_) => "faults may not end a server that was given by its URL",
        Wanted::Any if given_url().is_some() => {
            "faults may not end the server of CHAOS_DATABASE_URL: unset it"
        }
        Wanted::Container => "a server in a container would restart on another port",
        Wanted::Any | Wanted::Machine | Wanted::Downloaded => return Ok(()),
    };
    Err(OwnServerError::NotHere(reason.to_owned()))
}

fn none_available(failed: Vec<FailedSource>) -> OwnServerError {
    OwnServerError::NotHere(PostgresError::NoneAvailable(failed).to_string())
}

fn failed<E: ToString>(operation: &'static str) -> impl FnOnce(E) -> OwnServerError {
    move |error| OwnServerError::Failed { doing: operation, why: error.to_string() }
}
