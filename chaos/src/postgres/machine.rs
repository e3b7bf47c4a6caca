//! A cluster of our own: `initdb` once, then `postgres` as a child process on a free loopback port.
//!
//! The server runs in a process group of its own, so that Ctrl-C reaches the harness alone, and a
//! last will ends it should the harness be killed. It must never run with fsync off.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::{Connection, PgConnection};
use tokio::time::{Instant, sleep, timeout};

mod base;
mod error;
mod predecessor;

use super::account::Account;
use super::binaries::Binaries;
use crate::system::free_port;
use crate::system::last_will::LastWill;
use crate::system::log_tail;
use base::Base;
use error::MachineError;
pub(super) use predecessor::live_holder;
use predecessor::yield_to_predecessor;

/// Role of the cluster's owner.
const ROLE: &str = "postgres";
/// Clients that may be connected at once: several workers, each with its pools, and the harness.
const CONNECTIONS_MAX: u32 = 200;
/// Bound of `initdb`, seconds: it writes about 40 MB and waits for the disk.
const INITDB_SECONDS_MAX: Duration = Duration::from_secs(180);
/// Bound from start to ready, seconds: a kept cluster may have to replay its log first.
const READY_SECONDS_MAX: Duration = Duration::from_secs(120);
/// Pause between two attempts to connect, milliseconds.
const READY_POLL: Duration = Duration::from_millis(20);
/// A port may be taken between its choice and its use, and the last processes of a killed server
/// may still hold the data: so many starts are tried.
const STARTS_TRIED_MAX: usize = 8;
/// Pause between two starts, milliseconds.
const START_PAUSE: Duration = Duration::from_millis(250);
/// Bound of a clean shutdown, in steps of [`STOP_POLL`]; then the server is ended without one.
const STOP_STEPS_MAX: u32 = 1_000;
/// Pause between two looks at a server that is stopping, milliseconds.
const STOP_POLL: Duration = Duration::from_millis(10);

/// Where the data lives and how long.
pub(super) enum Place {
    /// A fresh directory, removed with the server.
    Temporary,
    /// This directory, which outlives the server.
    Kept(PathBuf),
}

/// A running server of our own.
#[derive(Debug)]
pub(super) struct Cluster {
    child: Child,
    will: Option<LastWill>,
    base: PathBuf,
    data: PathBuf,
    log: PathBuf,
    kept: bool,
    admin_url: String,
    account: Option<Account>,
}

impl Cluster {
    pub(super) async fn start(binaries: &Binaries, place: Place) -> Result<Self, MachineError> {
        let account = Account::to_drop_to().map_err(MachineError::Account)?;
        let base = Base::prepare(place, account.as_ref())?;
        let data = base.path.join("data");
        let password = base.password(account.as_ref())?;
        if data.join("PG_VERSION").is_file() {
            check_version(binaries, &data)?;
            yield_to_predecessor(&base.path).await?;
        } else {
            initdb(binaries, account.as_ref(), &base.path, &data).await?;
        }
        let log = base.path.join("log");
        let mut last = String::new();
        for _ in 0..STARTS_TRIED_MAX {
            let port = free_port();
            let child = spawn(binaries, account.as_ref(), &data, &log, port)?;
            let mut cluster = Self {
                will: None,
                base: base.path.clone(),
                data: data.clone(),
                log: log.clone(),
                kept: base.kept,
                admin_url: format!("postgresql://{ROLE}:{password}@127.0.0.1:{port}/postgres"),
                account: account.clone(),
                child,
            };
            cluster.leave_will()?;
            match cluster.wait_ready().await {
                Ok(()) => {
                    base.hand_over();
                    return Ok(cluster);
                }
                Err(why) => last = why,
            }
            cluster.kept = true; // the next start needs the same data
            drop(cluster);
            sleep(START_PAUSE).await;
        }
        Err(MachineError::Start {
            why: last,
            log: log_tail(&log),
        })
    }

    pub(super) fn admin_url(&self) -> &str {
        &self.admin_url
    }

    pub(super) fn data_dir(&self) -> &Path {
        &self.data
    }

    pub(super) fn log(&self) -> &Path {
        &self.log
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn account_name(&self) -> &str {
        self.account
            .as_ref()
            .map_or("this user", |account| &account.name)
    }

    fn leave_will(&mut self) -> Result<(), MachineError> {
        let keep = if self.kept { "keep" } else { "remove" };
        let pid = self.child.id().to_string();
        let base = self.base.to_string_lossy().into_owned();
        let will = LastWill::leave(END_SERVER, &[&pid, &base, keep]).map_err(|source| {
            MachineError::Files {
                doing: "leaving a last will for",
                path: self.base.clone(),
                source,
            }
        })?;
        self.will = Some(will);
        Ok(())
    }

    async fn wait_ready(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + READY_SECONDS_MAX;
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("it ended with {status}"));
            }
            let why = match timeout(READY_SECONDS_MAX, PgConnection::connect(&self.admin_url)).await
            {
                Ok(Ok(connection)) => {
                    // It answered; a connection that closes badly changes nothing.
                    let _closed = connection.close().await;
                    return Ok(());
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "connecting hangs".to_owned(),
            };
            if Instant::now() >= deadline {
                return Err(format!(
                    "not ready within {} s: {why}",
                    READY_SECONDS_MAX.as_secs()
                ));
            }
            sleep(READY_POLL).await;
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("process ids fit in 32 bits, signed");
        // A server that is gone already needs no signal.
        let _sent = kill(Pid::from_raw(pid), signal);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for (signal, steps) in [
            (Signal::SIGINT, STOP_STEPS_MAX),
            (Signal::SIGQUIT, STOP_STEPS_MAX),
        ] {
            self.signal(Signal::SIGCONT); // a paused server cannot hear
            self.signal(signal);
            if (0..steps).any(|_| self.ended_after_a_step()) {
                break;
            }
        }
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
        if !self.kept {
            let _removed = std::fs::remove_dir_all(&self.base);
        }
    }
}

impl Cluster {
    #[expect(
        clippy::disallowed_methods,
        reason = "a drop cannot await the end of the server"
    )]
    fn ended_after_a_step(&mut self) -> bool {
        let ended = !matches!(self.child.try_wait(), Ok(None));
        if !ended {
            std::thread::sleep(STOP_POLL);
        }
        ended
    }
}

/// Ends the server `$1` of the directory `$2`, then removes the directory unless told to keep it.
/// The server's own pid file must agree: a number that was given to someone else is left alone.
const END_SERVER: &str = r#"
if [ "$(head -n 1 "$2/data/postmaster.pid" 2>/dev/null)" = "$1" ]; then
  kill -CONT "$1" 2>/dev/null; kill -INT "$1" 2>/dev/null
  n=0
  while kill -0 "$1" 2>/dev/null && [ $n -lt 100 ]; do sleep 0.1; n=$((n+1)); done
  kill -QUIT "$1" 2>/dev/null && sleep 1
fi
[ "$3" = remove ] && rm -rf "$2"
"#;

async fn initdb(
    binaries: &Binaries,
    account: Option<&Account>,
    base: &Path,
    data: &Path,
) -> Result<(), MachineError> {
    // Built aside and renamed: an initdb that was killed leaves nothing that looks like a cluster.
    let unfinished = base.join("data.unfinished");
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished).map_err(|source| MachineError::Files {
            doing: "removing",
            path: unfinished.clone(),
            source,
        })?;
    }
    let mut command = Account::command(account, &binaries.program("initdb"));
    command
        .args([
            "-U",
            ROLE,
            "-A",
            "scram-sha-256",
            "-E",
            "UTF8",
            "--locale=C",
            "--pwfile",
        ])
        .arg(base.join("password"))
        .arg("-D")
        .arg(&unfinished)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(INITDB_SECONDS_MAX, command.output())
        .await
        .map_err(|_| MachineError::Initdb(format!("over {} s", INITDB_SECONDS_MAX.as_secs())))?
        .map_err(|error| MachineError::Initdb(error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(MachineError::Initdb(format!("{}: {said}", output.status)));
    }
    std::fs::rename(&unfinished, data).map_err(|source| MachineError::Files {
        doing: "renaming to",
        path: data.to_path_buf(),
        source,
    })
}

fn spawn(
    binaries: &Binaries,
    account: Option<&Account>,
    data: &Path,
    log: &Path,
    port: u16,
) -> Result<Child, MachineError> {
    let files = |source| MachineError::Files {
        doing: "opening",
        path: log.to_path_buf(),
        source,
    };
    let out: File = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .map_err(files)?;
    let err = out.try_clone().map_err(files)?;
    let mut command = Account::command(account, &binaries.program("postgres"));
    command.arg("-D").arg(data);
    for setting in [
        format!("port={port}"),
        format!("max_connections={CONNECTIONS_MAX}"),
        "listen_addresses=127.0.0.1".to_owned(),
        // No socket file: its path would be bounded to 107 bytes, and TCP is all that is used.
        "unix_socket_directories=".to_owned(),
        "fsync=on".to_owned(),
        "full_page_writes=on".to_owned(),
        "synchronous_commit=on".to_owned(),
        "logging_collector=off".to_owned(),
    ] {
        command.arg("-c").arg(setting);
    }
    let command = command.as_std_mut();
    std::os::unix::process::CommandExt::process_group(command, 0);
    command
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .spawn()
        .map_err(|source| MachineError::Files {
            doing: "starting",
            path: binaries.program("postgres"),
            source,
        })
}

fn check_version(binaries: &Binaries, data: &Path) -> Result<(), MachineError> {
    let found = std::fs::read_to_string(data.join("PG_VERSION")).unwrap_or_default();
    if found.trim() == binaries.major() {
        return Ok(());
    }
    Err(MachineError::Version {
        path: data.to_path_buf(),
        found: found.trim().to_owned(),
        ours: binaries.major().to_owned(),
    })
}
