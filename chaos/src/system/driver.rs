//! The trait [`System`] that every driver implements, and the types of its methods.
//!
//! This file is a leaf, so that the drivers do not import their parent module.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Settings of one dispatcher process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerSpec {
    /// Name in the history, in reports and of the log file.
    pub name: String,
    /// Complete environment, for example `DATABASE_URL` and `WEBHOOK_SECRET`. The driver adds the
    /// variables that it needs to start a program, and `BIND` from `bind` unless it is present.
    pub env: BTreeMap<String, String>,
    /// Address of the worker's API.
    pub bind: SocketAddr,
    /// File to which the driver appends the worker's output.
    pub log: PathBuf,
    /// File that replaces `/etc/hosts` for this worker, if the driver can do that.
    pub hosts: Option<PathBuf>,
}

impl WorkerSpec {
    pub(super) fn full_env(&self) -> BTreeMap<String, String> {
        let mut env = self.env.clone();
        env.entry("BIND".to_owned()).or_insert_with(|| self.bind.to_string());
        // The output goes to a file, where color codes make it unreadable.
        env.entry("NO_COLOR".to_owned()).or_insert_with(|| "1".to_owned());
        env
    }
}

/// How a worker process ended. All fields are empty if the driver could not find out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exit {
    /// Exit code, unless a signal ended the process.
    pub code: Option<i32>,
    /// Number of the signal that ended the process.
    pub signal: Option<i32>,
    /// True if the driver killed the process because the grace had passed.
    pub forced: bool,
}

impl Exit {
    /// Returns true if the process exited with code 0 within its grace.
    pub fn is_clean(&self) -> bool {
        self.code == Some(0) && !self.forced
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "exit code {code}")?,
            (None, Some(signal)) => write!(f, "signal {signal}")?,
            (None, None) => f.write_str("unknown exit status")?,
        }
        if self.forced { f.write_str(", forced after the grace") } else { Ok(()) }
    }
}

/// An operation on a worker or on the run's Postgres failed.
#[derive(Debug, thiserror::Error)]
pub enum SystemError {
    /// The driver cannot run on this machine.
    #[error("the {driver} driver cannot run here: {why}")]
    Unavailable {
        /// Name of the driver or of the missing part.
        driver: &'static str,
        /// The reason and, if there is one, the fix.
        why: String,
    },
    /// No worker with this name was started.
    #[error("no worker named {0} was started")]
    Unknown(String),
    /// A worker with this name runs already.
    #[error("worker {0} is already running")]
    Running(String),
    /// The worker exited before it was ready.
    #[error("worker {name} exited before it was ready: {exit}\n{log}")]
    Ended {
        /// Name of the worker.
        name: String,
        /// Its exit status.
        exit: Exit,
        /// Last lines of its log.
        log: String,
    },
    /// The worker did not answer `GET /readyz` with 200 in time.
    #[error("worker {name} is not ready after {within_ms} ms: {why}\n{log}")]
    NotReady {
        /// Name of the worker.
        name: String,
        /// The time limit in milliseconds.
        within_ms: u128,
        /// Last status or error of the probe.
        why: String,
        /// Last lines of its log.
        log: String,
    },
    /// The worker did not end within 30 s of SIGKILL.
    #[error("worker {0} does not end after SIGKILL: look for a process in uninterruptible IO")]
    Undying(String),
    /// A system call failed.
    #[error("{doing}")]
    Os {
        /// The operation, for example `opening w0.log`.
        doing: String,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// An operation on the run's dedicated Postgres failed.
    #[error("the dedicated Postgres of this run failed")]
    Postgres(#[from] crate::postgres::OwnServerError),
    /// The container engine returned an error.
    #[error("{doing}: {why}")]
    Engine {
        /// The operation, for example `pausing w0`.
        doing: String,
        /// Error of the engine.
        why: String,
    },
}

/// A driver: starts, signals, pauses and stops workers by the name in their [`WorkerSpec`].
pub trait System: Send + Sync {
    /// Starts a worker and does not wait until it is ready. A worker that has ended can be started
    /// again under its name.
    fn start(&mut self, spec: &WorkerSpec) -> impl Future<Output = Result<(), SystemError>> + Send;

    /// Waits until `GET /readyz` returns 200. Fails immediately if the worker exits.
    fn wait_ready(
        &self,
        name: &str,
        within: Duration,
    ) -> impl Future<Output = Result<(), SystemError>> + Send;

    /// Sends SIGKILL and waits until the worker has ended. This also ends a paused worker.
    fn kill(&mut self, name: &str) -> impl Future<Output = Result<Exit, SystemError>> + Send;

    /// Sends SIGTERM and waits. Sends SIGKILL if the worker still runs after `grace`.
    fn terminate(
        &mut self,
        name: &str,
        grace: Duration,
    ) -> impl Future<Output = Result<Exit, SystemError>> + Send;

    /// Stops a worker with SIGSTOP or the engine's pause. Returns when the worker no longer runs.
    fn pause(&mut self, name: &str) -> impl Future<Output = Result<(), SystemError>> + Send;

    /// Ends a pause. Has no effect on a worker that runs.
    fn resume(&mut self, name: &str) -> impl Future<Output = Result<(), SystemError>> + Send;

    /// Returns true if the worker was started and has not ended. A paused worker counts as running.
    fn is_running(&self, name: &str) -> bool;

    /// Returns the process id of a worker, or `None` if it has ended or its process cannot be seen
    /// from here.
    fn pid(&self, _name: &str) -> Option<u32> {
        None
    }

    /// Returns true if workers write directly to the file of [`WorkerSpec::log`], so that a fault
    /// can replace it by a pipe or a full device.
    fn opens_logs(&self) -> bool {
        false
    }

    /// Checks that workers resolve names by the file of [`WorkerSpec::hosts`].
    ///
    /// # Errors
    /// Returns the reason if they do not.
    fn replaces_hosts(&self) -> Result<(), String> {
        Err("this driver does not replace /etc/hosts".to_owned())
    }

    /// Kills every worker and removes everything that the driver made for it.
    fn stop_all(&mut self) -> impl Future<Output = Result<(), SystemError>> + Send;

    /// Returns one line for the report: the driver and the program that it runs.
    fn describe(&self) -> String;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_names_code_or_signal_and_force() {
        let exit = |code, signal, forced| Exit { code, signal, forced };
        assert_eq!(exit(Some(0), None, false).to_string(), "exit code 0");
        assert_eq!(exit(None, Some(9), true).to_string(), "signal 9, forced after the grace");
        assert!(exit(Some(0), None, false).is_clean());
        assert!(!exit(None, Some(9), false).is_clean());
    }
}
