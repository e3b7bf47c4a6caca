//! One postmaster process, from its start to its end.
//!
//! It runs in a separate process group, so that Ctrl-C reaches only the harness.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::{Connection, PgConnection};
use tokio::time::{Instant, sleep, timeout};

use super::super::account::Account;
use super::super::binaries::Binaries;
use super::clock::MovableClock;
use super::error::MachineError;
use crate::host::last_will::LastWill;

/// Time limit from start to ready. Existing data may require crash recovery first.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// Pause between two connection attempts.
const CONNECT_INTERVAL: Duration = Duration::from_millis(20);
/// Maximum number of checks that the server has ended after a signal: 10 s in total.
const STOP_CHECKS_MAX: u32 = 1_000;
/// Pause between two checks.
const STOP_CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// Settings of a postmaster.
pub(super) struct Launch<'a> {
    pub(super) binaries: &'a Binaries,
    pub(super) account: Option<&'a Account>,
    pub(super) base: &'a Path,
    pub(super) data: &'a Path,
    pub(super) log: &'a Path,
    /// True if the directory outlives the harness.
    pub(super) kept: bool,
    /// Mount point of the small disk, if there is one.
    pub(super) disk: Option<&'a Path>,
    /// The clock of the server, if it can be moved.
    pub(super) clock: Option<&'a MovableClock>,
    pub(super) port: u16,
    pub(super) connections_max: u32,
}

/// A running postmaster. Dropping it ends the server.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    _will: LastWill,
}

impl Server {
    pub(super) fn launch(launch: &Launch<'_>) -> Result<Self, MachineError> {
        let mut child = spawn(launch)?;
        match leave_will(&child, launch) {
            Ok(will) => Ok(Self { child, _will: will }),
            Err(error) => {
                let _killed = child.kill();
                let _reaped = child.wait();
                Err(error)
            }
        }
    }

    pub(super) async fn wait_ready(&mut self, url: &str) -> Result<(), String> {
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("the postmaster ended with {status}"));
            }
            let reason = match timeout(READY_TIMEOUT, PgConnection::connect(url)).await {
                Ok(Ok(connection)) => {
                    // The server is ready, so an error of the close does not matter.
                    let _closed = connection.close().await;
                    return Ok(());
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "a connection attempt got no response".to_owned(),
            };
            if Instant::now() >= deadline {
                return Err(format!("not ready within {} s: {reason}", READY_TIMEOUT.as_secs()));
            }
            sleep(CONNECT_INTERVAL).await;
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    pub(super) fn signal(&self, signal: Signal) {
        let pid =
            i32::try_from(self.child.id()).expect("a process id fits in a signed 32-bit number");
        // An error means that the server has already ended.
        let _sent = kill(Pid::from_raw(pid), signal);
    }

    /// Waits until the server has ended after a signal.
    ///
    /// # Errors
    /// If the server still runs after 10 s.
    pub(super) async fn wait_end(&mut self) -> Result<(), MachineError> {
        for _ in 0..STOP_CHECKS_MAX {
            if self.has_ended() {
                return Ok(());
            }
            sleep(STOP_CHECK_INTERVAL).await;
        }
        Err(MachineError::Undying { pid: self.pid() })
    }

    #[expect(clippy::disallowed_methods, reason = "a drop cannot await the end of the server")]
    fn has_ended_or_sleep(&mut self) -> bool {
        let ended = self.has_ended();
        if !ended {
            std::thread::sleep(STOP_CHECK_INTERVAL);
        }
        ended
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for signal in [Signal::SIGINT, Signal::SIGQUIT] {
            if self.has_ended() {
                return;
            }
            // A paused server does not handle signals.
            self.signal(Signal::SIGCONT);
            self.signal(signal);
            if (0..STOP_CHECKS_MAX).any(|_| self.has_ended_or_sleep()) {
                break;
            }
        }
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Script that ends the server with process id `$1` and data `$2`, unmounts the disk `$4` if it is
/// not empty, and removes the directory `$3` if `$5` is `remove`. It sends no signal unless the pid
/// file in the data contains `$1`, because another process may have that id by then.
const END_SERVER: &str = r#"
if [ "$(head -n 1 "$2/postmaster.pid" 2>/dev/null)" = "$1" ]; then
  kill -CONT "$1" 2>/dev/null; kill -INT "$1" 2>/dev/null
  n=0
  while kill -0 "$1" 2>/dev/null && [ $n -lt 100 ]; do sleep 0.1; n=$((n+1)); done
  kill -QUIT "$1" 2>/dev/null && sleep 6
fi
[ -z "$4" ] || umount "$4"
[ "$5" = remove ] && rm -rf "$3"
"#;

fn leave_will(child: &Child, launch: &Launch<'_>) -> Result<LastWill, MachineError> {
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let (data, base) = (path(launch.data), path(launch.base));
    let disk = launch.disk.map(path).unwrap_or_default();
    let keep = if launch.kept { "keep" } else { "remove" };
    let arguments = [&child.id().to_string(), &data, &base, &disk, keep];
    LastWill::leave(END_SERVER, &arguments).map_err(|source| MachineError::Files {
        operation: "leaving a last will for",
        path: launch.base.to_path_buf(),
        source,
    })
}

fn spawn(launch: &Launch<'_>) -> Result<Child, MachineError> {
    let files =
        |operation, path: PathBuf| move |source| MachineError::Files { operation, path, source };
    let log = launch.log.to_path_buf();
    let out: File = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log)
        .map_err(files("opening", log.clone()))?;
    let err = out.try_clone().map_err(files("opening", log))?;
    let program = launch.binaries.program("postgres");
    let mut command = Account::command(launch.account, &program);
    command.arg("-D").arg(launch.data);
    for setting in settings(launch) {
        command.arg("-c").arg(setting);
    }
    if let Some(clock) = launch.clock {
        command.envs(clock.environment());
    }
    let command = command.as_std_mut();
    std::os::unix::process::CommandExt::process_group(command, 0);
    command.stdin(Stdio::null()).stdout(out).stderr(err).spawn().map_err(files("starting", program))
}

fn settings(launch: &Launch<'_>) -> Vec<String> {
    let mut settings = vec![
        format!("port={}", launch.port),
        format!("max_connections={}", launch.connections_max),
        "listen_addresses=127.0.0.1".to_owned(),
        // No Unix socket: its path is limited to 107 bytes, and all clients use TCP.
        "unix_socket_directories=".to_owned(),
        "fsync=on".to_owned(),
        "full_page_writes=on".to_owned(),
        "synchronous_commit=on".to_owned(),
        "logging_collector=off".to_owned(),
    ];
    if launch.disk.is_some() {
        // The write-ahead log alone must not fill the small disk.
        settings.extend(["min_wal_size=32MB".to_owned(), "max_wal_size=64MB".to_owned()]);
    }
    settings
}
