//! The binary as child processes, over a database that a test names.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use chaos::binary::dispatcher_binary;
use chaos::system::{ProcessSystem, System, WorkerSpec, free_port};
use tempfile::TempDir;

use super::app::{self, PATIENCE};

/// Child processes and where their logs go; all of them end with it.
pub(crate) struct Processes {
    pub(crate) system: ProcessSystem,
    logs: TempDir,
}

impl Processes {
    /// Of the binary as it is.
    pub(crate) fn plain() -> Self {
        Self::new(ProcessSystem::new(
            dispatcher_binary().expect("the binary can be built"),
        ))
    }

    /// Of the binary in one role.
    pub(crate) fn of_role(role: &str) -> Self {
        let binary = dispatcher_binary().expect("the binary can be built");
        Self::new(ProcessSystem::new(binary).with_arguments(&[role]))
    }

    pub(crate) fn new(system: ProcessSystem) -> Self {
        let logs = tempfile::tempdir().expect("a directory for logs");
        Self { system, logs }
    }

    /// Starts one with the settings of [`app::settings`] and waits until it is ready; where it listens.
    pub(crate) async fn start(
        &mut self,
        name: &str,
        database: &str,
        own: &[(&str, &str)],
    ) -> SocketAddr {
        self.start_on([127, 0, 0, 1], name, database, own).await
    }

    /// The same on another address.
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
        };
        self.system.start(&spec).await.expect("it starts");
        let ready = self.system.wait_ready(name, PATIENCE).await;
        ready.unwrap_or_else(|error| panic!("{error}"));
        bind
    }

    /// Changes how many descriptors one of them may have; what it has open stays open.
    pub(crate) fn limit_descriptors(&self, name: &str, most: u32) {
        let pid = self.system.pid(name).expect("it runs");
        let set = std::process::Command::new("prlimit")
            .args(["--pid", &pid.to_string(), &format!("--nofile={most}:")])
            .status();
        assert!(set.expect("prlimit, of util-linux, is there").success());
    }

    /// Memory that one of them keeps, in KiB.
    pub(crate) fn resident_kib(&self, name: &str) -> u64 {
        let pid = self.system.pid(name).expect("it runs");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = kib
            .and_then(|rest| rest.trim().strip_suffix("kB"))
            .expect("a size");
        kib.trim().parse().expect("a number")
    }

    /// What one of them wrote so far.
    pub(crate) fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.logs.path().join(name)).expect("it was started")
    }

    fn environment(&self, database: &str, own: &[(&str, &str)]) -> BTreeMap<String, String> {
        app::settings(database, own)
    }
}
