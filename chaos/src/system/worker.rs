//! What both drivers know of a started worker: where it listens and whether it has ended.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::probe::status_of;
use super::{Exit, SystemError, WorkerSpec, log_tail};

/// Pause between two probes, milliseconds.
const PROBE_POLL: Duration = Duration::from_millis(20);
/// Bound from SIGKILL to death, seconds: the kernel may have to finish a write first.
pub(super) const DEATH_SECONDS_MAX: Duration = Duration::from_secs(30);

/// A started worker as its driver's watching task reports it.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) name: String,
    bind: SocketAddr,
    log: PathBuf,
    /// `None` while it lives.
    exit: watch::Receiver<Option<Exit>>,
}

impl Started {
    pub(super) fn new(spec: &WorkerSpec, exit: watch::Receiver<Option<Exit>>) -> Self {
        Self {
            name: spec.name.clone(),
            bind: spec.bind,
            log: spec.log.clone(),
            exit,
        }
    }

    pub(super) fn exit(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// Waits for the end, at most `bound`.
    pub(super) async fn ended(&self, bound: Duration) -> Option<Exit> {
        let mut exit = self.exit.clone();
        let ended = timeout(bound, exit.wait_for(Option::is_some)).await.ok()?;
        // A watching task that is gone without a word cannot tell how the worker ended.
        ended.map_or(
            Some(Exit {
                code: None,
                signal: None,
                forced: false,
            }),
            |exit| *exit,
        )
    }

    pub(super) async fn wait_ready(&self, within: Duration) -> Result<(), SystemError> {
        let deadline = Instant::now() + within;
        let mut why = "it was not probed".to_owned();
        while Instant::now() < deadline {
            if let Some(exit) = self.exit() {
                return Err(SystemError::Ended {
                    name: self.name.clone(),
                    exit,
                    log: log_tail(&self.log),
                });
            }
            why = match timeout(within, status_of(self.bind, "/readyz")).await {
                // Somebody else on the port must not pass for a worker that has ended.
                Ok(Ok(200)) if self.exit().is_none() => return Ok(()),
                Ok(Ok(status)) => format!("GET /readyz answers {status}"),
                Ok(Err(error)) => format!("GET /readyz: {error}"),
                Err(_) => "GET /readyz hangs".to_owned(),
            };
            sleep(PROBE_POLL).await;
        }
        Err(SystemError::NotReady {
            name: self.name.clone(),
            within_ms: within.as_millis(),
            why,
            log: log_tail(&self.log),
        })
    }
}
