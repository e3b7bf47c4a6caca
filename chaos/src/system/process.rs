//! The driver `process`: workers are child processes, controlled by signals.
//!
//! Each worker has a separate process group, so that Ctrl-C reaches only the harness. A last will
//! kills the group if the harness is killed.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::sleep;

use super::driver::{Exit, System, SystemError, WorkerSpec};
use super::hosts::HostsFile;
use super::worker::{KILL_TIMEOUT, StartedWorker};
use crate::binary::named;
use crate::host::last_will::{KILL_GROUP, LastWill};

/// Variables that a worker inherits: those that starting a program requires. Settings of the
/// harness must not configure a worker.
const INHERITED: [&str; 3] = ["PATH", "HOME", "TMPDIR"];
/// Maximum number of checks until a process has stopped after SIGSTOP: 1 s in total.
const PAUSE_CHECKS_MAX: u32 = 500;
/// Pause between two checks.
const PAUSE_CHECK_INTERVAL: Duration = Duration::from_millis(2);

/// Runs one program as child processes.
#[derive(Debug)]
pub struct ProcessSystem {
    program: PathBuf,
    arguments: Vec<String>,
    workers: BTreeMap<String, Worker>,
    /// Replaces `/etc/hosts` for workers, or the reason why none can. `None` before the first use.
    hosts: Option<Result<HostsFile, String>>,
}

#[derive(Debug)]
struct Worker {
    started: StartedWorker,
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
            hosts: None,
        }
    }

    /// Adds arguments for the program.
    #[must_use]
    pub fn with_arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        self
    }

    fn worker(&self, name: &str) -> Result<&Worker, SystemError> {
        self.workers.get(name).ok_or_else(|| SystemError::Unknown(name.to_owned()))
    }

    fn command(&self, spec: &WorkerSpec) -> Result<Command, SystemError> {
        let os_error =
            |source| SystemError::Os { doing: format!("opening {}", spec.log.display()), source };
        if let Some(directory) = spec.log.parent() {
            std::fs::create_dir_all(directory).map_err(os_error)?;
        }
        let out = OpenOptions::new().create(true).append(true).open(&spec.log).map_err(os_error)?;
        let err = out.try_clone().map_err(os_error)?;
        let replaced =
            self.hosts.as_ref().and_then(|hosts| hosts.as_ref().ok()).zip(spec.hosts.as_ref());
        let mut command = match replaced {
            Some((hosts, file)) => hosts.command(file, &self.program),
            None => Command::new(&self.program),
        };
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
        if let (None, Some(file)) = (&self.hosts, &spec.hosts) {
            self.hosts = Some(HostsFile::find(file).await);
        }
        let os_error = |source| SystemError::Os {
            doing: format!("starting {} as {}", self.program.display(), spec.name),
            source,
        };
        let mut child = self.command(spec)?.spawn().map_err(os_error)?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
        let pid = pid.expect("a child that has not been reaped has a process id");
        let will = LastWill::leave(KILL_GROUP, &[&pid.to_string()]).map_err(os_error)?;
        let (sender, exit) = watch::channel(None);
        tokio::spawn(async move {
            let exit = child.wait().await.map_or_else(|_| Exit::default(), exit_from);
            // An error means that the driver was dropped, so no receiver remains.
            let _sent = sender.send(Some(exit));
        });
        let worker = Worker { started: StartedWorker::new(spec, exit), pid, _will: will };
        self.workers.insert(spec.name.clone(), worker);
        Ok(())
    }

    async fn wait_ready(&self, name: &str, within: Duration) -> Result<(), SystemError> {
        self.worker(name)?.started.wait_ready(within).await
    }

    async fn kill(&mut self, name: &str) -> Result<Exit, SystemError> {
        let worker = self.worker(name)?;
        worker.signal(Signal::SIGKILL)?;
        let exit = worker.started.wait_exit(KILL_TIMEOUT).await;
        exit.ok_or_else(|| SystemError::Undying(name.to_owned()))
    }

    async fn terminate(&mut self, name: &str, grace: Duration) -> Result<Exit, SystemError> {
        let worker = self.worker(name)?;
        worker.signal(Signal::SIGTERM)?;
        match worker.started.wait_exit(grace).await {
            Some(exit) => Ok(exit),
            None => Ok(Exit { forced: true, ..self.kill(name).await? }),
        }
    }

    async fn pause(&mut self, name: &str) -> Result<(), SystemError> {
        let worker = self.worker(name)?;
        worker.signal(Signal::SIGSTOP)?;
        for _ in 0..PAUSE_CHECKS_MAX {
            if worker.started.exit().is_some() || is_stopped(worker.pid) {
                return Ok(());
            }
            sleep(PAUSE_CHECK_INTERVAL).await;
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
        self.workers.get(name).is_some_and(|worker| worker.started.exit().is_none())
    }

    fn pid(&self, name: &str) -> Option<u32> {
        let worker = self.workers.get(name).filter(|worker| worker.started.exit().is_none())?;
        u32::try_from(worker.pid.as_raw()).ok()
    }

    fn opens_logs(&self) -> bool {
        true
    }

    fn replaces_hosts(&self) -> Result<(), String> {
        match &self.hosts {
            Some(Ok(_)) => Ok(()),
            Some(Err(why)) => Err(why.clone()),
            None => Err("no worker was started with a separate /etc/hosts".to_owned()),
        }
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
    /// Sends a signal unless the worker has ended. Another process may have its id by then.
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
            // The reporting task reaps the child. If the runtime has ended, tokio's `kill_on_drop`
            // has already killed it.
            let _sent = worker.signal(Signal::SIGKILL);
        }
    }
}

fn exit_from(status: ExitStatus) -> Exit {
    Exit { code: status.code(), signal: status.signal(), forced: false }
}

/// Returns true if the process has stopped. Without `/proc` this cannot be checked, and the
/// function returns true.
fn is_stopped(pid: Pid) -> bool {
    match std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")) {
        // The state follows the program's name, which may contain spaces and brackets.
        Ok(stat) => stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T')),
        Err(_) => !Path::new("/proc/self").exists(),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

    use tempfile::TempDir;

    use super::*;
    use crate::host::free_port;

    /// Far above the time that the tests need. It only ends a test that hangs.
    const TEST_TIMEOUT: Duration = Duration::from_secs(20);

    /// A driver that runs a shell script in place of a worker.
    fn shell(script: &str) -> (ProcessSystem, WorkerSpec, TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let system = ProcessSystem::new("/bin/sh").with_arguments(&["-c", script]);
        let spec = WorkerSpec {
            name: "w0".into(),
            env: BTreeMap::from([("DATABASE_URL".into(), "postgresql://h/d".into())]),
            bind: ([127, 0, 0, 1], free_port()).into(),
            log: directory.path().join("logs/w0.log"),
            hosts: None,
        };
        (system, spec, directory)
    }

    /// Waits until the log contains `word` and returns the log.
    async fn wait_logged(spec: &WorkerSpec, word: &str) -> String {
        for _ in 0..1_000 {
            let text = std::fs::read_to_string(&spec.log).unwrap_or_default();
            if text.contains(word) {
                return text;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("{word:?} did not appear in the log");
    }

    #[tokio::test]
    async fn worker_does_not_inherit_settings_of_the_harness() {
        let (mut system, spec, _directory) = shell("env; echo done; exit 3");
        system.start(&spec).await.unwrap();
        let text = wait_logged(&spec, "done").await;
        assert!(text.contains("DATABASE_URL=postgresql://h/d"));
        assert!(text.contains(&format!("BIND={}", spec.bind)));
        assert!(!text.contains("CARGO_MANIFEST_DIR"));
        let exit = system.worker("w0").unwrap().started.wait_exit(TEST_TIMEOUT).await.unwrap();
        assert_eq!(exit.code, Some(3));
        assert!(!system.is_running("w0"));
    }

    #[tokio::test]
    async fn killed_worker_has_ended_and_can_start_again() {
        let (mut system, spec, _directory) = shell("echo up; exec sleep 600");
        system.start(&spec).await.unwrap();
        assert!(matches!(system.start(&spec).await, Err(SystemError::Running(_))));
        assert_eq!(system.kill("w0").await.unwrap().signal, Some(9));
        assert!(!system.is_running("w0"));
        system.start(&spec).await.unwrap();
        assert!(system.is_running("w0"));
        system.stop_all().await.unwrap();
        assert!(!system.is_running("w0"));
    }

    #[tokio::test]
    async fn worker_that_ignores_sigterm_is_killed_after_its_grace() {
        let (mut system, spec, _directory) =
            shell("trap '' TERM; echo ignoring; while :; do sleep 0.05; done");
        system.start(&spec).await.unwrap();
        wait_logged(&spec, "ignoring").await;
        let exit = system.terminate("w0", Duration::from_millis(50)).await.unwrap();
        assert!(exit.forced && exit.signal == Some(9), "{exit}");

        let (mut system, spec, _directory) =
            shell("trap 'exit 0' TERM; echo waiting; while :; do sleep 0.05; done");
        system.start(&spec).await.unwrap();
        wait_logged(&spec, "waiting").await;
        assert!(system.terminate("w0", TEST_TIMEOUT).await.unwrap().is_clean());
    }

    #[tokio::test]
    async fn paused_worker_is_stopped_and_can_be_killed() {
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
    async fn wait_for_a_worker_that_exits_fails_with_its_log() {
        let (mut system, spec, _directory) = shell("echo cannot start; exit 78");
        system.start(&spec).await.unwrap();
        let error = system.wait_ready("w0", TEST_TIMEOUT).await.unwrap_err().to_string();
        assert!(error.contains("exit code 78") && error.contains("cannot start"), "{error}");
    }

    #[tokio::test]
    async fn unknown_name_is_an_error() {
        let (mut system, _, _directory) = shell("true");
        assert!(matches!(system.kill("w9").await, Err(SystemError::Unknown(_))));
    }
}
