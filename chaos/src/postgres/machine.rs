//! A cluster of our own: `initdb` once, then `postgres` as a child process on a free loopback port.
//!
//! The server runs in a process group of its own, so that Ctrl-C reaches the harness alone, and a
//! last will ends it should the harness be killed. It must never run with fsync off.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::{Connection, PgConnection};
use tokio::time::{Instant, sleep, timeout};

use super::account::{self, Account};
use super::binaries::Binaries;
use crate::system::free_port;
use crate::system::last_will::LastWill;
use crate::system::log_tail;

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
/// A port may be taken between its choice and its use: so many others are tried.
const PORTS_TRIED_MAX: usize = 3;
/// Bound of a clean shutdown, in steps of [`STOP_POLL`]; then the server is ended without one.
const STOP_STEPS_MAX: u32 = 1_000;
/// Pause between two looks at a server that is stopping, milliseconds.
const STOP_POLL: Duration = Duration::from_millis(10);
/// How long the server of a harness that was killed may take to go away, seconds.
const PREDECESSOR_SECONDS_MAX: Duration = Duration::from_secs(20);

/// Where the data lives and how long.
pub(super) enum Place {
    /// A fresh directory, removed with the server.
    Temporary,
    /// This directory, which outlives the server.
    Kept(PathBuf),
}

/// What went wrong with an own cluster.
#[derive(Debug, thiserror::Error)]
pub(super) enum MachineError {
    #[error("{0}")]
    Account(String),
    #[error("{doing} {}: {source}", path.display())]
    Files {
        doing: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("initdb failed: {0}")]
    Initdb(String),
    #[error("{} is held by a live server, process {pid}: end that one first", path.display())]
    Held { path: PathBuf, pid: u32 },
    #[error("{} was made by PostgreSQL {found}, the binaries here are {ours}", path.display())]
    Version {
        path: PathBuf,
        found: String,
        ours: String,
    },
    #[error("the server did not start: {why}\n{log}")]
    Start { why: String, log: String },
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
        for _ in 0..PORTS_TRIED_MAX {
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
            cluster.kept = true; // the next port is tried on the same data
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

/// The directory around the data: log and password live beside it. Removed on failure if ours.
struct Base {
    path: PathBuf,
    kept: bool,
    temporary: Option<tempfile::TempDir>,
}

impl Base {
    fn prepare(place: Place, account: Option<&Account>) -> Result<Self, MachineError> {
        let files = |doing, path: &Path| {
            let path = path.to_path_buf();
            move |source| MachineError::Files {
                doing,
                path,
                source,
            }
        };
        let base = match place {
            Place::Temporary => {
                let parent = account::temporary_directory();
                let temporary = tempfile::Builder::new()
                    .prefix("chaos-postgres-")
                    .tempdir_in(&parent)
                    .map_err(files("creating a directory in", &parent))?;
                let path = temporary.path().to_path_buf();
                Self {
                    path,
                    kept: false,
                    temporary: Some(temporary),
                }
            }
            Place::Kept(path) => {
                std::fs::create_dir_all(&path).map_err(files("creating", &path))?;
                Self {
                    path,
                    kept: true,
                    temporary: None,
                }
            }
        };
        let private = PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&base.path, private).map_err(files("closing", &base.path))?;
        Account::give(account, &base.path).map_err(files("handing over", &base.path))?;
        Ok(base)
    }

    /// The owner's password, made on the first start: loopback is shared with every local user.
    fn password(&self, account: Option<&Account>) -> Result<String, MachineError> {
        let path = self.path.join("password");
        let files = |doing| {
            let path = path.clone();
            move |source| MachineError::Files {
                doing,
                path,
                source,
            }
        };
        if let Ok(password) = std::fs::read_to_string(&path) {
            return Ok(password.trim().to_owned());
        }
        let password = uuid::Uuid::new_v4().simple().to_string();
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(files("creating"))?;
        writeln!(file, "{password}").map_err(files("writing"))?;
        Account::give(account, &path).map_err(files("handing over"))?;
        Ok(password)
    }

    /// From here on the cluster removes the directory itself.
    fn hand_over(self) {
        if let Some(temporary) = self.temporary {
            let _path = temporary.keep();
        }
    }
}

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

/// Waits for the server of a harness that was killed; removes a pid file that names a stranger.
async fn yield_to_predecessor(base: &Path) -> Result<(), MachineError> {
    let deadline = Instant::now() + PREDECESSOR_SECONDS_MAX;
    while let Some(pid) = live_holder(base) {
        if Instant::now() >= deadline {
            return Err(MachineError::Held {
                path: base.to_path_buf(),
                pid,
            });
        }
        sleep(READY_POLL).await;
    }
    // Postgres refuses to start when the number in a stale file belongs to any process now.
    match std::fs::remove_file(base.join("data/postmaster.pid")) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(MachineError::Files {
            doing: "removing the stale pid file of",
            path: base.to_path_buf(),
            source,
        }),
        _ => Ok(()),
    }
}

/// The process that holds the cluster in `base`, if it lives and is a Postgres.
pub(super) fn live_holder(base: &Path) -> Option<u32> {
    let file = std::fs::read_to_string(base.join("data/postmaster.pid")).ok()?;
    let pid: u32 = file.lines().next()?.trim().parse().ok()?;
    let process = Path::new("/proc").join(pid.to_string());
    if !Path::new("/proc/self").exists() {
        let alive = kill(Pid::from_raw(i32::try_from(pid).ok()?), None).is_ok();
        return alive.then_some(pid);
    }
    let command = std::fs::read(process.join("cmdline")).ok()?;
    String::from_utf8_lossy(&command)
        .contains("postgres")
        .then_some(pid)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

    use super::*;

    fn pid_file(base: &Path, pid: u32) {
        std::fs::create_dir_all(base.join("data")).unwrap();
        std::fs::write(base.join("data/postmaster.pid"), format!("{pid}\n/x\n")).unwrap();
    }

    #[tokio::test]
    async fn a_pid_file_that_names_a_stranger_does_not_block_the_next_start() {
        let base = tempfile::tempdir().unwrap();
        let mut stranger = std::process::Command::new("sleep")
            .arg("60")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        pid_file(base.path(), stranger.id());
        assert_eq!(live_holder(base.path()), None);
        yield_to_predecessor(base.path()).await.unwrap();
        assert!(!base.path().join("data/postmaster.pid").exists());
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }

    #[tokio::test]
    async fn a_directory_without_a_pid_file_is_free() {
        let base = tempfile::tempdir().unwrap();
        assert_eq!(live_holder(base.path()), None);
        yield_to_predecessor(base.path()).await.unwrap();
    }
}
