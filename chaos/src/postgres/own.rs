//! A server that is a run's own, so that faults may do to it what they like: end its sessions and its
//! processes, hold it, fill its disk.
//!
//! It is made of the machine's binaries, else of downloaded ones; a server in a container is not taken
//! down, because it would come back on another port, and one that was given never is. It comes back on its port with
//! its data. It knows no table of the dispatcher's.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::PgConnection;
use tokio::time::{Instant, sleep, timeout};

use super::binaries::Binaries;
use super::error::FailedWay;
use super::machine::{Cluster, Place, SmallDisk};
use super::way::given_url;
use super::{Postgres, PostgresError, Server, Wanted, connect, downloaded};

/// How long a connect to a server that may be down or held is waited for, in seconds.
const PROBE: Duration = Duration::from_secs(2);
/// How long a session that something is to be done with may take to begin: on a starved machine more than
/// a probe waits, and then the run had no verdict.
const SESSION_SECONDS_MAX: Duration = Duration::from_secs(30);
/// How long a server that is healed may take until it takes sessions again, in seconds: it recovers first.
const READY_SECONDS_MAX: Duration = Duration::from_secs(120);
/// Pause between two attempts to connect, in milliseconds.
const READY_POLL: Duration = Duration::from_millis(20);

/// Why a server is not a run's own, or did not do what it must.
#[derive(Debug, thiserror::Error)]
pub enum OwnServerError {
    /// It may not be touched, or cannot be had.
    #[error("{0}")]
    NotHere(String),
    /// It did not do what it must.
    #[error("{doing}: {why}")]
    Failed {
        /// What was asked.
        doing: &'static str,
        /// Its answer.
        why: String,
    },
}

/// A running server, or one that a fault has just ended.
#[derive(Debug)]
pub struct OwnServer {
    postgres: Postgres,
    /// The database of the run, once it is made.
    database: Option<String>,
    /// The processes that stand still, the postmaster first.
    paused: Vec<Pid>,
    /// The session that told them: it stands still with them.
    witness: Option<PgConnection>,
    small_disk: Result<(), String>,
}

impl OwnServer {
    /// Starts one; with a small disk if asked so and if one can be mounted here.
    ///
    /// # Errors
    /// Why there is none: another kind of server is wanted, or no binaries work.
    pub async fn start(wanted: &Wanted, small_disk: bool) -> Result<Self, OwnServerError> {
        may_be_own(wanted)?;
        let of_machine = match wanted {
            Wanted::Downloaded => Err(Vec::new()),
            _ => {
                let binaries = Binaries::of_machine().await;
                start_with("machine", binaries, small_disk).await
            }
        };
        let mut failed = match of_machine {
            Ok(own) => return Ok(own),
            Err(failed) if *wanted == Wanted::Machine => return Err(none(failed)),
            Err(failed) => failed,
        };
        let binaries = downloaded::binaries().await;
        start_with("downloaded", binaries, small_disk)
            .await
            .map_err(|more| {
                failed.extend(more);
                none(failed)
            })
    }

    /// Whether one can be had here, as far as that can be told without fetching anything.
    ///
    /// # Errors
    /// Why not.
    pub async fn here(wanted: &Wanted) -> Result<(), String> {
        may_be_own(wanted).map_err(|error| error.to_string())?;
        if *wanted == Wanted::Downloaded {
            return Ok(());
        }
        let binaries = Binaries::of_machine().await;
        binaries.map(drop).map_err(|failed| failed.why)
    }

    /// Whether a small disk can be mounted here.
    ///
    /// # Errors
    /// Why not.
    pub fn small_disk_here() -> Result<(), String> {
        SmallDisk::here()
    }

    /// The server as any other.
    #[must_use]
    pub fn postgres(&self) -> &Postgres {
        &self.postgres
    }

    /// Makes the database of the run and gives its URL, which stays the same whatever is done.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn create_database(&mut self, prefix: &str) -> Result<String, PostgresError> {
        let url = self.postgres.create_database(prefix).await?;
        self.database = Some(url.clone());
        Ok(url)
    }

    /// A session of the harness's own, in the database of the run.
    ///
    /// # Errors
    /// What the server said instead.
    pub async fn session(&self) -> Result<PgConnection, sqlx::Error> {
        self.session_within(SESSION_SECONDS_MAX).await
    }

    async fn session_within(&self, most: Duration) -> Result<PgConnection, sqlx::Error> {
        let admin = self.postgres.admin_url();
        let url = self.database.as_deref().unwrap_or(admin);
        let patience = timeout(most, connect(url)).await;
        patience.unwrap_or_else(|_| Err(sqlx::Error::PoolTimedOut))
    }

    /// What keeps a client from connecting just now, if anything does.
    pub async fn refusal(&self) -> Option<String> {
        match self.session_within(PROBE).await {
            Ok(_) => None,
            Err(sqlx::Error::PoolTimedOut) => {
                Some(format!("no answer within {} s", PROBE.as_secs()))
            }
            Err(error) => Some(error.to_string()),
        }
    }

    /// SIGKILL of one backend.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn kill_backend(&self, pid: i32) -> Result<(), OwnServerError> {
        kill(Pid::from_raw(pid), Signal::SIGKILL).map_err(failed("killing a backend"))
    }

    /// The immediate stop of `pg_ctl`: no checkpoint, no goodbye. Returns when the postmaster has ended.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn stop_at_once(&mut self) -> Result<(), OwnServerError> {
        let ended = self.cluster().end_by(Signal::SIGQUIT).await;
        ended.map_err(failed("stopping the server at once"))
    }

    /// SIGKILL of the postmaster; its backends end by themselves when they see it. Returns when it has ended.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn kill(&mut self) -> Result<(), OwnServerError> {
        let ended = self.cluster().end_by(Signal::SIGKILL).await;
        ended.map_err(failed("killing the postmaster"))
    }

    /// SIGSTOP of the postmaster, so that no session begins; of every other process of the server, too, if asked so.
    ///
    /// # Errors
    /// When it is not there, or does not tell its processes.
    pub async fn pause(&mut self, all: bool) -> Result<(), OwnServerError> {
        let doing = "pausing the server";
        let mut witness = self.session().await.map_err(failed(doing))?;
        let postmaster = self.postgres.pid().ok_or("it has ended");
        let postmaster = postmaster.map_err(failed(doing))?;
        // First, so that it starts no further process while the others are told.
        self.stop_still(i32::try_from(postmaster).map_err(failed(doing))?)?;
        if all {
            // The one that tells comes last: it must not stand still before it has told.
            let told = "select pid from pg_stat_activity order by pid = pg_backend_pid()";
            let told = sqlx::query_scalar(told).fetch_all(&mut witness);
            let pids: Vec<i32> = told.await.map_err(failed(doing))?;
            for pid in pids {
                self.stop_still(pid)?;
            }
        }
        self.witness = Some(witness);
        Ok(())
    }

    fn stop_still(&mut self, pid: i32) -> Result<(), OwnServerError> {
        let pid = Pid::from_raw(pid);
        match kill(pid, Signal::SIGSTOP) {
            Ok(()) => self.paused.push(pid),
            // A session that ended meanwhile.
            Err(nix::errno::Errno::ESRCH) => {}
            Err(error) => return Err(failed("pausing a process of the server")(error)),
        }
        Ok(())
    }

    /// Ends a pause. Harmless when there is none.
    pub fn resume(&mut self) {
        for pid in self.paused.drain(..) {
            // One that was killed meanwhile has no pause to end.
            let _sent = kill(pid, Signal::SIGCONT);
        }
        self.witness = None;
    }

    /// Takes all room of the small disk but the last `spare` bytes; gives how many were taken.
    ///
    /// # Errors
    /// Where it has none, or it cannot be written to.
    pub fn fill_disk(&mut self, spare: u64) -> Result<u64, OwnServerError> {
        self.small_disk.clone().map_err(OwnServerError::NotHere)?;
        let disk = self.cluster().disk().ok_or("it has none");
        let disk = disk.map_err(failed("filling the small disk"))?;
        disk.fill(spare).map_err(failed("filling the small disk"))
    }

    /// Undoes whatever was done, starts the server if it has ended, and waits until it takes sessions. Harmless when nothing
    /// was done.
    ///
    /// # Errors
    /// When it does not come back.
    pub async fn bring_up(&mut self) -> Result<(), OwnServerError> {
        self.resume();
        if let Some(disk) = self.cluster().disk() {
            disk.free().map_err(failed("freeing the small disk"))?;
        }
        if self.cluster().has_ended() {
            let started = self.cluster().start_again().await;
            return started.map_err(failed("starting the server again"));
        }
        let until = Instant::now() + READY_SECONDS_MAX;
        while let Some(why) = self.refusal().await {
            // One that cannot recover ends by itself.
            if self.cluster().has_ended() {
                let started = self.cluster().start_again().await;
                return started.map_err(failed("starting the server again"));
            }
            if Instant::now() >= until {
                return Err(failed("waiting for the server")(why));
            }
            sleep(READY_POLL).await;
        }
        Ok(())
    }

    fn cluster(&mut self) -> &mut Cluster {
        match &mut self.postgres.server {
            Server::Started(cluster) => cluster,
            _ => unreachable!("it was started here, from binaries"),
        }
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        self.resume();
    }
}

async fn start_with(
    way: &'static str,
    binaries: Result<Binaries, FailedWay>,
    small_disk: bool,
) -> Result<OwnServer, Vec<FailedWay>> {
    let binaries = binaries.map_err(|failed| vec![failed])?;
    let small = match small_disk {
        true => SmallDisk::here(),
        false => Err("no small disk was asked for".to_owned()),
    };
    let place = Place::Own {
        small_disk: small.is_ok(),
    };
    let postgres = Postgres::start(way, &binaries, place).await;
    Ok(OwnServer {
        postgres: postgres.map_err(|failed| vec![failed])?,
        database: None,
        paused: Vec::new(),
        witness: None,
        small_disk: small,
    })
}

/// A server that was given is never touched, and one in a container would come back on another port.
fn may_be_own(wanted: &Wanted) -> Result<(), OwnServerError> {
    let why = match wanted {
        Wanted::Url(_) => "a server that was given is not the run's own",
        Wanted::Any if given_url().is_some() => {
            "the server of CHAOS_DATABASE_URL is not the run's own"
        }
        Wanted::Container => "a server in a container would come back on another port",
        Wanted::Any | Wanted::Machine | Wanted::Downloaded => return Ok(()),
    };
    Err(OwnServerError::NotHere(why.to_owned()))
}

fn none(failed: Vec<FailedWay>) -> OwnServerError {
    OwnServerError::NotHere(PostgresError::NoneAvailable(failed).to_string())
}

fn failed<E: ToString>(doing: &'static str) -> impl FnOnce(E) -> OwnServerError {
    move |error| OwnServerError::Failed {
        doing,
        why: error.to_string(),
    }
}
