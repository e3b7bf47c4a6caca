//! The dispatcher under test: drivers that start, signal, pause and stop its worker processes.
//!
//! A driver sees HTTP, a process and a database address, never the dispatcher's code, so that the
//! same run can test another product. There are two drivers: child processes and containers.
//! A driver does not choose the time of an operation: schedule and nemesis do.

use std::time::Duration;

#[cfg(feature = "docker")]
mod container;
mod driver;
mod hosts;
#[cfg(feature = "docker")]
mod image;
mod probe;
mod process;
mod worker;

#[cfg(feature = "docker")]
pub use container::ContainerSystem;
pub use driver::{Exit, System, SystemError, WorkerSpec};
pub use probe::status_of;
pub use process::ProcessSystem;

/// One of the drivers, chosen at run time.
#[derive(Debug)]
pub enum AnySystem {
    /// Workers are child processes.
    Process(ProcessSystem),
    /// Workers are containers.
    #[cfg(feature = "docker")]
    Container(ContainerSystem),
}

/// Calls the same method on the driver of either variant.
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

    fn pid(&self, name: &str) -> Option<u32> {
        dispatch!(self, system => system.pid(name))
    }

    fn opens_logs(&self) -> bool {
        dispatch!(self, system => system.opens_logs())
    }

    fn replaces_hosts(&self) -> Result<(), String> {
        dispatch!(self, system => system.replaces_hosts())
    }

    async fn stop_all(&mut self) -> Result<(), SystemError> {
        dispatch!(self, system => system.stop_all().await)
    }

    fn describe(&self) -> String {
        dispatch!(self, system => system.describe())
    }
}
