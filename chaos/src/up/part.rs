//! One child process of `chaos up`. Its log lines appear on the terminal with its name.
//!
//! The process runs in a separate process group, so Ctrl-C reaches only `chaos`, which stops the
//! processes in order. A last will kills the process if `chaos` is killed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::terminal::{is_colored, print_line};
use crate::host::last_will::{KILL_GROUP, LastWill};
use crate::system::status_of;

/// Interval between two probes.
const PROBE_INTERVAL: Duration = Duration::from_millis(30);
/// Maximum time from the exit of a process to its last line.
const LAST_LINES_MAX: Duration = Duration::from_secs(2);

/// A running child process. Dropping it sends SIGKILL.
pub(super) struct Part {
    name: &'static str,
    pid: Pid,
    exit: watch::Receiver<Option<ExitStatus>>,
    _will: LastWill,
}

impl Part {
    /// Starts `program` with the environment of this process and `env`. Users can therefore set all
    /// settings of the dispatcher as usual.
    pub(super) fn start(
        name: &'static str,
        program: &Path,
        env: &BTreeMap<&str, String>,
    ) -> anyhow::Result<Self> {
        let starting = || format!("starting {}", program.display());
        let mut command = Command::new(program);
        if !is_colored() {
            command.env("NO_COLOR", "1");
        }
        let mut child = command
            .envs(env)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(starting)?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.expect("only `wait` removes the process id");
        let will = LastWill::leave(KILL_GROUP, &[&pid.to_string()]).with_context(starting)?;
        let out = child.stdout.take().map(|lines| tokio::spawn(show(name, lines)));
        let err = child.stderr.take().map(|lines| tokio::spawn(show(name, lines)));
        let (sender, exit) = watch::channel(None);
        tokio::spawn(watch_end(child, [out, err], sender));
        Ok(Self { name, pid: Pid::from_raw(pid), exit, _will: will })
    }

    /// Waits until `GET path` returns 200.
    pub(super) async fn wait_ready(
        &self,
        address: SocketAddr,
        path: &str,
        within: Duration,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + within;
        while Instant::now() < deadline {
            if let Some(status) = *self.exit.borrow() {
                bail!(
                    "the {} exited while starting: {status}; its last lines are above",
                    self.name
                );
            }
            if status_of(address, path).await.is_ok_and(|status| status == 200) {
                return Ok(());
            }
            sleep(PROBE_INTERVAL).await;
        }
        bail!("the {} did not answer {path} with 200 within {} s", self.name, within.as_secs())
    }

    /// Waits for the exit and returns a sentence about it.
    pub(super) async fn ended(&self) -> String {
        match self.exit.clone().wait_for(Option::is_some).await.ok().and_then(|status| *status) {
            Some(status) => format!("the {} exited: {status}", self.name),
            None => format!("the {} exited", self.name),
        }
    }

    /// Sends SIGTERM, and SIGKILL after `grace`.
    pub(super) async fn terminate(&self, grace: Duration) {
        self.signal(Signal::SIGTERM);
        if timeout(grace, self.ended()).await.is_err() {
            self.signal(Signal::SIGKILL);
            self.ended().await;
        }
    }

    fn signal(&self, signal: Signal) {
        if self.exit.borrow().is_none() {
            // A process that exits at this moment needs no signal.
            let _sent = kill(self.pid, signal);
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}

/// Publishes the exit status after the last lines have been printed.
async fn watch_end(
    mut child: Child,
    lines: [Option<JoinHandle<()>>; 2],
    exit: watch::Sender<Option<ExitStatus>>,
) {
    let status = child.wait().await.ok();
    for lines in lines.into_iter().flatten() {
        // A grandchild may keep the pipe open.
        let _shown = timeout(LAST_LINES_MAX, lines).await;
    }
    // If the status is unknown, dropping the sender ends each wait.
    if status.is_some() {
        let _sent = exit.send(status);
    }
}

async fn show(name: &'static str, lines: impl AsyncRead + Unpin) {
    let mut lines = BufReader::new(lines).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        print_line(name, &String::from_utf8_lossy(&line));
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

    use super::*;

    #[tokio::test]
    async fn process_that_exits_while_starting_is_an_error() {
        let address = ([127, 0, 0, 1], crate::host::free_port()).into();
        let part = Part::start("receiver", Path::new("/bin/false"), &BTreeMap::new()).unwrap();
        let error = part.wait_ready(address, "/healthz", Duration::from_secs(20)).await;
        assert!(error.unwrap_err().to_string().contains("exited while starting"));
        assert!(part.ended().await.contains("exit status: 1"));
    }

    #[tokio::test]
    async fn process_is_terminated_or_killed_after_the_grace() {
        let part = Part::start("receiver", Path::new("/bin/cat"), &BTreeMap::new()).unwrap();
        part.terminate(Duration::from_secs(20)).await;
        assert!(part.exit.borrow().is_some());
    }
}
