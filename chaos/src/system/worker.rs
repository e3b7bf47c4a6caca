//! State that both drivers keep of a started worker: its address, its log and its exit status.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::driver::{Exit, SystemError, WorkerSpec};
use super::probe::status_of;
use crate::host::log_tail::log_tail;

/// Pause between two probes.
const PROBE_INTERVAL: Duration = Duration::from_millis(20);
/// Time limit from SIGKILL to the end of the process. The kernel may have to finish a write first.
pub(super) const KILL_TIMEOUT: Duration = Duration::from_secs(30);

/// A started worker. A task of its driver reports the end of the process.
#[derive(Debug)]
pub(super) struct StartedWorker {
    pub(super) name: String,
    bind: SocketAddr,
    log: PathBuf,
    /// `None` while the process runs.
    exit: watch::Receiver<Option<Exit>>,
}

impl StartedWorker {
    pub(super) fn new(spec: &WorkerSpec, exit: watch::Receiver<Option<Exit>>) -> Self {
        Self { name: spec.name.clone(), bind: spec.bind, log: spec.log.clone(), exit }
    }

    pub(super) fn exit(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// Waits until the process has ended. Returns `None` if it still runs after `within`.
    pub(super) async fn wait_exit(&self, within: Duration) -> Option<Exit> {
        let mut exit = self.exit.clone();
        let ended = timeout(within, exit.wait_for(Option::is_some)).await.ok()?;
        // An error means that the reporting task has ended without a report.
        ended.map_or(Some(Exit::default()), |exit| *exit)
    }

    pub(super) async fn wait_ready(&self, within: Duration) -> Result<(), SystemError> {
        let deadline = Instant::now() + within;
        let mut why = "the probe has not started".to_owned();
        while Instant::now() < deadline {
            if let Some(exit) = self.exit() {
                return Err(SystemError::Ended {
                    name: self.name.clone(),
                    exit,
                    log: log_tail(&self.log),
                });
            }
            why = match timeout(within, status_of(self.bind, "/readyz")).await {
                // If the worker has ended, another program has answered on its port.
                Ok(Ok(200)) if self.exit().is_none() => return Ok(()),
                Ok(Ok(status)) => format!("GET /readyz returned {status}"),
                Ok(Err(error)) => format!("GET /readyz: {error}"),
                Err(_) => "GET /readyz got no response in time".to_owned(),
            };
            sleep(PROBE_INTERVAL).await;
        }
        Err(SystemError::NotReady {
            name: self.name.clone(),
            within_ms: within.as_millis(),
            why,
            log: log_tail(&self.log),
        })
    }
}
