//! Workers as child processes: signals from `kill(2)`, output appended to the worker's log.
//!
//! Each runs in a process group of its own, so that Ctrl-C reaches the harness alone, and a last
//! will kills it should the harness be killed.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::sleep;

use super::last_will::{KILL_GROUP, LastWill};
use super::worker::{DEATH_SECONDS_MAX, Started};
use super::{Exit, System, SystemError, WorkerSpec};
use crate::binary::named;

/// What a worker inherits: enough to start a program, nothing that configures it.
const INHERITED: [&str; 3] = ["PATH", "HOME", "TMPDIR"];
/// Bound from SIGSTOP to a stopped process, in steps of [`PAUSE_POLL`].
const PAUSE_STEPS_MAX: u32 = 500;
/// Pause between two looks at a process that is being stopped, milliseconds.
const PAUSE_POLL: Duration = Duration::from_millis(2);

/// The driver `process`.
#[derive(Debug)]
pub struct ProcessSystem {
    program: PathBuf,
    arguments: Vec<String>,
    workers: BTreeMap<String, Worker>,
}

#[derive(Debug)]
struct Worker {
    started: Started,
    pid: Pid,
    _will: LastWill,
}

impl ProcessSystem {
    /// Runs `program` without arguments.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            workers: BTreeMap::new(),
        }
    }

    /// The same with arguments, for a program that needs some.
    #[must_use]
    pub fn with_arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments = arguments
            .iter()
            .map(|&argument| argument.to_owned())
            .collect();
        self
    }

    /// The process id of a worker that has not ended.
    pub fn pid(&self, name: &str) -> Option<u32> {
        let worker = self
            .workers
            .get(name)
            .filter(|worker| worker.started.exit().is_none())?;
        u32::try_from(worker.pid.as_raw()).ok()
    }

    fn worker(&self, name: &str) -> Result<&Worker, SystemError> {
        self.workers
            .get(name)
            .ok_or_else(|| SystemError::Unknown(name.to_owned()))
    }

    fn command(&self, spec: &WorkerSpec) -> Result<Command, SystemError> {
        let log = |source| SystemError::Os {
            doing: format!("opening {}", spec.log.display()),
            source,
        };
        if let Some(directory) = spec.log.parent() {
            std::fs::create_dir_all(directory).map_err(log)?;
        }
        let out = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&spec.log)
            .map_err(log)?;
        let err = out.try_clone().map_err(log)?;
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env_clear();
        for name in INHERITED {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
            .envs(spec.full_env())
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .kill_on_drop(true);
        Ok(command)
    }
}

impl System for ProcessSystem {
    async fn start(&mut self, spec: &WorkerSpec) -> Result<(), SystemError> {
        if self.is_running(&spec.name) {
            return Err(SystemError::Running(spec.name.clone()));
        }
        let doing = || format!("starting {} as {}", self.program.display(), spec.name);
        let os = |source| SystemError::Os {
            doing: doing(),
            source,
        };
        let mut child = self.command(spec)?.spawn().map_err(os)?;
        let pid = child
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .map(Pid::from_raw);
        let pid = pid.expect("a child that was not waited for has a process id");
        let will = LastWill::leave(KILL_GROUP, &[&pid.to_string()]).map_err(os)?;
        let (sender, exit) = watch::channel(None);
        tokio::spawn(async move {
            let end = child.wait().await.map_or(
                Exit {
                    code: None,
                    signal: None,
                    forced: false,
                },
                |status| Exit {
                    code: status.code(),
                    signal: status.signal(),
                    forced: false,
                },
            );
            // Nobody may be waiting any more: the system was dropped.
            let _told = sender.send(Some(end));
        });
        let worker = Worker {
            started: Started::new(spec, exit),
            pid,
            _will: will,
        };
        self.workers.insert(spec.name.clone(), worker);
        Ok(())
    }

    async fn wait_ready(&self, name: &str, within: Duration) -> Result<(), SystemError> {
        self.worker(name)?.started.wait_ready(within).await
    }

    async fn kill(&mut self, name: &str) -> Result<Exit, SystemError> {
        let worker = self.worker(name)?;
        worker.signal(Signal::SIGKILL)?;
        let ended = worker.started.ended(DEATH_SECONDS_MAX).await;
        ended.ok_or_else(|| SystemError::Undying(name.to_owned()))
    }

    async fn terminate(&mut self, name: &str, grace: Duration) -> Result<Exit, SystemError> {
        let worker = self.worker(name)?;
        worker.signal(Signal::SIGTERM)?;
        match worker.started.ended(grace).await {
            Some(exit) => Ok(exit),
            None => Ok(Exit {
                forced: true,
                ..self.kill(name).await?
            }),
        }
    }

    async fn pause(&mut self, name: &str) -> Result<(), SystemError> {
        let worker = self.worker(name)?;
        worker.signal(Signal::SIGSTOP)?;
        for _ in 0..PAUSE_STEPS_MAX {
            if worker.started.exit().is_some() || is_stopped(worker.pid) {
                return Ok(());
            }
            sleep(PAUSE_POLL).await;
        }
        Err(SystemError::Os {
            doing: format!("pausing {name}"),
            source: std::io::ErrorKind::TimedOut.into(),
        })
    }

    async fn resume(&mut self, name: &str) -> Result<(), SystemError> {
        self.worker(name)?.signal(Signal::SIGCONT)
    }

    fn is_running(&self, name: &str) -> bool {
        self.workers
            .get(name)
            .is_some_and(|worker| worker.started.exit().is_none())
    }

    async fn stop_all(&mut self) -> Result<(), SystemError> {
        let names: Vec<String> = self.workers.keys().cloned().collect();
        for name in &names {
            self.kill(name).await?;
        }
        self.workers.clear();
        Ok(())
    }

    fn describe(&self) -> String {
        format!("process: {}", named(&self.program))
    }
}

impl Worker {
    /// A worker that has ended is not signalled: its number may be somebody else's by now.
    fn signal(&self, signal: Signal) -> Result<(), SystemError> {
        if self.started.exit().is_some() {
            return Ok(());
        }
        match kill(self.pid, signal) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
            Err(errno) => Err(SystemError::Os {
                doing: format!("sending {signal} to {}", self.started.name),
                source: errno.into(),
            }),
        }
    }
}

impl Drop for ProcessSystem {
    fn drop(&mut self) {
        for worker in self.workers.values() {
            // The watching task reaps it; without a runtime the child's own drop has killed it.
            let _sent = worker.signal(Signal::SIGKILL);
        }
    }
}

/// Whether every thread of the process has stopped. Where there is no `/proc`, the signal is taken
/// at its word.
fn is_stopped(pid: Pid) -> bool {
    match std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")) {
        // The state follows the program's name, which may hold spaces and brackets.
        Ok(stat) => stat
            .rsplit(')')
            .next()
            .is_some_and(|rest| rest.trim_start().starts_with('T')),
        Err(_) => !Path::new("/proc/self").exists(),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

    use tempfile::TempDir;

    use super::super::free_port;
    use super::*;

    const GUARD: Duration = Duration::from_secs(20);

    /// A shell stands in for a worker: it tells its environment, then does what the test asks.
    fn shell(script: &str) -> (ProcessSystem, WorkerSpec, TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let system = ProcessSystem::new("/bin/sh").with_arguments(&["-c", script]);
        let spec = WorkerSpec {
            name: "w0".into(),
            env: BTreeMap::from([("DATABASE_URL".into(), "postgresql://h/d".into())]),
            bind: ([127, 0, 0, 1], free_port()).into(),
            log: directory.path().join("logs/w0.log"),
        };
        (system, spec, directory)
    }

    async fn logged(spec: &WorkerSpec, word: &str) -> String {
        for _ in 0..1_000 {
            let text = std::fs::read_to_string(&spec.log).unwrap_or_default();
            if text.contains(word) {
                return text;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("{word:?} never appeared in the log");
    }

    #[tokio::test]
    async fn a_worker_gets_its_own_environment_and_nothing_that_configures_the_harness() {
        let (mut system, spec, _directory) = shell("env; echo done; exit 3");
        system.start(&spec).await.unwrap();
        let text = logged(&spec, "done").await;
        assert!(text.contains("DATABASE_URL=postgresql://h/d"));
        assert!(text.contains(&format!("BIND={}", spec.bind)));
        assert!(!text.contains("CARGO_MANIFEST_DIR"));
        let exit = system
            .worker("w0")
            .unwrap()
            .started
            .ended(GUARD)
            .await
            .unwrap();
        assert_eq!(exit.code, Some(3));
        assert!(!system.is_running("w0"));
    }

    #[tokio::test]
    async fn a_killed_worker_is_dead_when_kill_returns_and_can_be_started_again() {
        let (mut system, spec, _directory) = shell("echo up; exec sleep 600");
        system.start(&spec).await.unwrap();
        assert!(matches!(
            system.start(&spec).await,
            Err(SystemError::Running(_))
        ));
        assert_eq!(system.kill("w0").await.unwrap().signal, Some(9));
        assert!(!system.is_running("w0"));
        system.start(&spec).await.unwrap();
        assert!(system.is_running("w0"));
        system.stop_all().await.unwrap();
        assert!(!system.is_running("w0"));
    }

    #[tokio::test]
    async fn a_worker_that_ignores_sigterm_is_killed_after_its_grace() {
        let (mut system, spec, _directory) =
            shell("trap '' TERM; echo deaf; while :; do sleep 0.05; done");
        system.start(&spec).await.unwrap();
        logged(&spec, "deaf").await;
        let exit = system
            .terminate("w0", Duration::from_millis(50))
            .await
            .unwrap();
        assert!(exit.forced && exit.signal == Some(9), "{exit}");

        let (mut system, spec, _directory) =
            shell("trap 'exit 0' TERM; echo polite; while :; do sleep 0.05; done");
        system.start(&spec).await.unwrap();
        logged(&spec, "polite").await;
        assert!(system.terminate("w0", GUARD).await.unwrap().is_clean());
    }

    #[tokio::test]
    async fn a_paused_worker_runs_but_does_nothing_and_can_be_killed() {
        let (mut system, spec, _directory) = shell("echo up; exec sleep 600");
        system.start(&spec).await.unwrap();
        system.pause("w0").await.unwrap();
        let pid = system.worker("w0").unwrap().pid;
        assert!(system.is_running("w0") && is_stopped(pid));
        system.resume("w0").await.unwrap();
        system.resume("w0").await.unwrap();
        system.pause("w0").await.unwrap();
        assert_eq!(system.kill("w0").await.unwrap().signal, Some(9));
    }

    #[tokio::test]
    async fn waiting_for_a_worker_that_ends_fails_with_the_end_of_its_log() {
        let (mut system, spec, _directory) = shell("echo refused to boot; exit 78");
        system.start(&spec).await.unwrap();
        let error = system
            .wait_ready("w0", GUARD)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("exit code 78") && error.contains("refused to boot"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_name_that_was_never_started_is_an_error() {
        let (mut system, _, _directory) = shell("true");
        assert!(matches!(
            system.kill("w9").await,
            Err(SystemError::Unknown(_))
        ));
    }
}
