//! Dispatcher binaries as child processes.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use chaos::binary::dispatcher_binary;
use chaos::host::free_port;
use chaos::system::{ProcessSystem, System, WorkerSpec};
use tempfile::TempDir;

use super::app::{self, WAIT_MAX};

/// Child processes and the directory of their logs. Dropping it ends all of them.
pub(crate) struct Processes {
    pub(crate) system: ProcessSystem,
    logs: TempDir,
}

impl Processes {
    /// Runs the binary without arguments: `dispatcher serve`.
    pub(crate) fn plain() -> Self {
        Self::new(ProcessSystem::new(dispatcher_binary().expect("the binary can be built")))
    }

    /// Runs the binary with a role as argument.
    pub(crate) fn of_role(role: &str) -> Self {
        let binary = dispatcher_binary().expect("the binary can be built");
        Self::new(ProcessSystem::new(binary).with_arguments(&[role]))
    }

    pub(crate) fn new(system: ProcessSystem) -> Self {
        let logs = tempfile::tempdir().expect("a directory for logs");
        Self { system, logs }
    }

    /// Starts a process with [`app::settings`], waits until it is ready, and returns its address.
    pub(crate) async fn start(
        &mut self,
        name: &str,
        database: &str,
        own: &[(&str, &str)],
    ) -> SocketAddr {
        self.start_on([127, 0, 0, 1], name, database, own).await
    }

    /// Starts a process that listens on the given IP address.
    pub(crate) async fn start_on(
        &mut self,
        ip: [u8; 4],
        name: &str,
        database: &str,
        own: &[(&str, &str)],
    ) -> SocketAddr {
        let bind: SocketAddr = (ip, free_port()).into();
        let spec = WorkerSpec {
            name: name.to_owned(),
            env: self.environment(database, own),
            bind,
            log: self.logs.path().join(name),
            hosts: None,
        };
        self.system.start(&spec).await.expect("the process starts");
        let ready = self.system.wait_ready(name, WAIT_MAX).await;
        ready.unwrap_or_else(|error| panic!("{error}"));
        bind
    }

    /// Sets the soft limit of file descriptors of a running process. Open descriptors stay open.
    pub(crate) fn limit_descriptors(&self, name: &str, limit: u32) {
        let pid = self.system.pid(name).expect("the process runs");
        let set = std::process::Command::new("prlimit")
            .args(["--pid", &pid.to_string(), &format!("--nofile={limit}:")])
            .status();
        assert!(set.expect("prlimit of util-linux is installed").success());
    }

    /// Resident memory of a process in KiB.
    pub(crate) fn resident_kib(&self, name: &str) -> u64 {
        let pid = self.system.pid(name).expect("the process runs");
        let status =
            std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = kib.and_then(|rest| rest.trim().strip_suffix("kB")).expect("the size is in kB");
        kib.trim().parse().expect("the size is a number")
    }

    /// Output of a process so far.
    pub(crate) fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.logs.path().join(name)).expect("the process has a log")
    }

    fn environment(&self, database: &str, own: &[(&str, &str)]) -> BTreeMap<String, String> {
        app::settings(database, own)
    }
}

/// Exit code and output of a binary that has exited.
pub(crate) struct Exited {
    pub(crate) code: Option<i32>,
    /// Standard output, then standard error.
    pub(crate) text: String,
}

/// Runs the binary with only the given environment variables and waits for its exit.
pub(crate) async fn command(arguments: &[&str], environment: &[(&str, &str)]) -> Exited {
    let program = dispatcher_binary().expect("the binary can be built");
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).env_clear().kill_on_drop(true);
    command.envs(environment.iter().copied());
    let output = tokio::time::timeout(WAIT_MAX, command.output()).await;
    let output = output.expect("the binary exits").expect("the binary can be started");
    let text = [output.stdout, output.stderr].concat();
    Exited { code: output.status.code(), text: String::from_utf8_lossy(&text).into_owned() }
}
