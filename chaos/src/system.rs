//! What the harness may do to a dispatcher: start it, watch it, kill it, end it, pause it.
//!
//! A system sees HTTP, a process and a database address, never the dispatcher's code, so that the
//! same run can test another product. Two drivers: child processes and containers.
//! A system must not decide when something happens: schedule and nemesis do.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[cfg(feature = "docker")]
mod container;
#[cfg(feature = "docker")]
pub(crate) mod engine;
#[cfg(feature = "docker")]
mod image;
pub(crate) mod last_will;
mod port;
mod probe;
mod process;
mod worker;

#[cfg(feature = "docker")]
pub use container::ContainerSystem;
pub use port::free_port;
pub use probe::status_of;
pub use process::ProcessSystem;

/// Lines of a log that an error quotes.
const LOG_TAIL_LINES_MAX: usize = 20;
/// Bytes of a log's end that are read for that.
const LOG_TAIL_BYTES_MAX: usize = 16 * 1024;

/// One dispatcher process: what it is told and where it is heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerSpec {
    /// Its name in history, reports and log file.
    pub name: String,
    /// Its whole environment, apart from what the driver needs to start it: `DATABASE_URL`,
    /// `WEBHOOK_SECRET` and so on. `BIND` is added from `bind` unless it is given.
    pub env: BTreeMap<String, String>,
    /// Where its API listens.
    pub bind: SocketAddr,
    /// File that its output is appended to.
    pub log: PathBuf,
}

impl WorkerSpec {
    fn full_env(&self) -> BTreeMap<String, String> {
        let mut env = self.env.clone();
        env.entry("BIND".to_owned())
            .or_insert_with(|| self.bind.to_string());
        // Its output goes to a file, where escape sequences only hide the words.
        env.entry("NO_COLOR".to_owned())
            .or_insert_with(|| "1".to_owned());
        env
    }
}

/// How a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code, if it ended by itself.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// It did not end within its grace and was killed.
    pub forced: bool,
}

impl Exit {
    /// Whether it ended by itself with code 0.
    pub fn is_clean(&self) -> bool {
        self.code == Some(0) && !self.forced
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "exit code {code}")?,
            (None, Some(signal)) => write!(f, "signal {signal}")?,
            (None, None) => f.write_str("unknown end")?,
        }
        if self.forced {
            f.write_str(" after its grace")
        } else {
            Ok(())
        }
    }
}

/// What a driver could not do.
#[derive(Debug, thiserror::Error)]
pub enum SystemError {
    /// The driver cannot run on this machine.
    #[error("the {driver} driver cannot run here: {why}")]
    Unavailable {
        /// Its name.
        driver: &'static str,
        /// The reason.
        why: String,
    },
    /// No worker of this name was started.
    #[error("no worker named {0} was started")]
    Unknown(String),
    /// A worker of this name is running.
    #[error("worker {0} is running already")]
    Running(String),
    /// The worker ended where it had to live.
    #[error("worker {name} ended by itself: {exit}\n{log}")]
    Ended {
        /// Its name.
        name: String,
        /// How it ended.
        exit: Exit,
        /// The end of its log.
        log: String,
    },
    /// The worker did not answer `GET /readyz` with 200 in time.
    #[error("worker {name} is not ready after {within_ms} ms: {why}\n{log}")]
    NotReady {
        /// Its name.
        name: String,
        /// The bound, milliseconds.
        within_ms: u128,
        /// The last answer or error.
        why: String,
        /// The end of its log.
        log: String,
    },
    /// The worker did not die although it was killed.
    #[error("worker {0} does not die")]
    Undying(String),
    /// The operating system refused.
    #[error("{doing}")]
    Os {
        /// What was being done.
        doing: String,
        /// Its answer.
        source: std::io::Error,
    },
    /// The run's own Postgres did not do what it must.
    #[error("the run's own Postgres")]
    Postgres(#[from] crate::postgres::OwnServerError),
    /// The container engine refused.
    #[error("{doing}: {why}")]
    Engine {
        /// What was being done.
        doing: String,
        /// Its answer.
        why: String,
    },
}

/// Everything a run may do to its workers. Names are those of the [`WorkerSpec`]s.
pub trait System: Send + Sync {
    /// Starts a worker and does not wait until it is ready. A worker that ended or was killed may
    /// be started again under its name.
    fn start(&mut self, spec: &WorkerSpec) -> impl Future<Output = Result<(), SystemError>> + Send;

    /// Waits until `GET /readyz` answers 200; fails at once when the worker ends.
    fn wait_ready(
        &self,
        name: &str,
        within: Duration,
    ) -> impl Future<Output = Result<(), SystemError>> + Send;

    /// SIGKILL, then waits for the death. A paused worker dies too.
    fn kill(&mut self, name: &str) -> impl Future<Output = Result<Exit, SystemError>> + Send;

    /// SIGTERM, then waits; SIGKILL when `grace` is over.
    fn terminate(
        &mut self,
        name: &str,
        grace: Duration,
    ) -> impl Future<Output = Result<Exit, SystemError>> + Send;

    /// Freezes a worker: SIGSTOP, or the engine's pause. Returns when it has taken effect.
    fn pause(&mut self, name: &str) -> impl Future<Output = Result<(), SystemError>> + Send;

    /// Ends a pause. Harmless on a worker that runs.
    fn resume(&mut self, name: &str) -> impl Future<Output = Result<(), SystemError>> + Send;

    /// Whether the worker was started and has not ended; a paused one is running.
    fn is_running(&self, name: &str) -> bool;

    /// Kills every worker and removes what was made for them.
    fn stop_all(&mut self) -> impl Future<Output = Result<(), SystemError>> + Send;

    /// One line for the report: the driver and what it runs.
    fn describe(&self) -> String;
}

/// The driver that was chosen at run time.
#[derive(Debug)]
pub enum AnySystem {
    /// Child processes.
    Process(ProcessSystem),
    /// Containers.
    #[cfg(feature = "docker")]
    Container(ContainerSystem),
}

/// Calls the same method on whichever driver there is.
macro_rules! dispatch {
    ($any:expr, $system:ident => $call:expr) => {
        match $any {
            AnySystem::Process($system) => $call,
            #[cfg(feature = "docker")]
            AnySystem::Container($system) => $call,
        }
    };
}

impl System for AnySystem {
    async fn start(&mut self, spec: &WorkerSpec) -> Result<(), SystemError> {
        dispatch!(self, system => system.start(spec).await)
    }

    async fn wait_ready(&self, name: &str, within: Duration) -> Result<(), SystemError> {
        dispatch!(self, system => system.wait_ready(name, within).await)
    }

    async fn kill(&mut self, name: &str) -> Result<Exit, SystemError> {
        dispatch!(self, system => system.kill(name).await)
    }

    async fn terminate(&mut self, name: &str, grace: Duration) -> Result<Exit, SystemError> {
        dispatch!(self, system => system.terminate(name, grace).await)
    }

    async fn pause(&mut self, name: &str) -> Result<(), SystemError> {
        dispatch!(self, system => system.pause(name).await)
    }

    async fn resume(&mut self, name: &str) -> Result<(), SystemError> {
        dispatch!(self, system => system.resume(name).await)
    }

    fn is_running(&self, name: &str) -> bool {
        dispatch!(self, system => system.is_running(name))
    }

    async fn stop_all(&mut self) -> Result<(), SystemError> {
        dispatch!(self, system => system.stop_all().await)
    }

    fn describe(&self) -> String {
        dispatch!(self, system => system.describe())
    }
}

/// The last lines of a log, for an error.
pub(crate) fn log_tail(path: &Path) -> String {
    let Ok(bytes) = std::fs::read(path) else {
        return format!("(no log in {})", path.display());
    };
    let end = &bytes[bytes.len().saturating_sub(LOG_TAIL_BYTES_MAX)..];
    let text = String::from_utf8_lossy(end);
    let lines: Vec<&str> = text.lines().collect();
    let tail = &lines[lines.len().saturating_sub(LOG_TAIL_LINES_MAX)..];
    format!("end of {}:\n  {}", path.display(), tail.join("\n  "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_is_told_in_words() {
        let exit = |code, signal, forced| Exit {
            code,
            signal,
            forced,
        };
        assert_eq!(exit(Some(0), None, false).to_string(), "exit code 0");
        assert_eq!(
            exit(None, Some(9), true).to_string(),
            "signal 9 after its grace"
        );
        assert!(exit(Some(0), None, false).is_clean());
        assert!(!exit(None, Some(9), false).is_clean());
    }
}
