//! Workers as containers.

use std::path::PathBuf;
use std::time::Duration;

use super::{Exit, System, SystemError, WorkerSpec};

/// The driver `container`.
#[derive(Debug)]
pub struct ContainerSystem {
    program: PathBuf,
}

impl ContainerSystem {
    /// Whether containers can be run here, else the reason.
    ///
    /// # Errors
    /// The reason, for the report.
    pub async fn available() -> Result<(), String> {
        Err("not built yet".to_owned())
    }

    /// Builds the image around `program`, unless it exists.
    ///
    /// # Errors
    /// When no engine answers or the image cannot be built.
    pub async fn new(program: impl Into<PathBuf>) -> Result<Self, SystemError> {
        let why = Self::available().await.err().unwrap_or_default();
        let _system = Self {
            program: program.into(),
        };
        Err(SystemError::Unavailable {
            driver: "container",
            why,
        })
    }
}

impl System for ContainerSystem {
    async fn start(&mut self, spec: &WorkerSpec) -> Result<(), SystemError> {
        Err(SystemError::Unknown(spec.name.clone()))
    }

    async fn wait_ready(&self, name: &str, _within: Duration) -> Result<(), SystemError> {
        Err(SystemError::Unknown(name.to_owned()))
    }

    async fn kill(&mut self, name: &str) -> Result<Exit, SystemError> {
        Err(SystemError::Unknown(name.to_owned()))
    }

    async fn terminate(&mut self, name: &str, _grace: Duration) -> Result<Exit, SystemError> {
        Err(SystemError::Unknown(name.to_owned()))
    }

    async fn pause(&mut self, name: &str) -> Result<(), SystemError> {
        Err(SystemError::Unknown(name.to_owned()))
    }

    async fn resume(&mut self, name: &str) -> Result<(), SystemError> {
        Err(SystemError::Unknown(name.to_owned()))
    }

    fn is_running(&self, _name: &str) -> bool {
        false
    }

    async fn stop_all(&mut self) -> Result<(), SystemError> {
        Ok(())
    }

    fn describe(&self) -> String {
        format!("container: {}", self.program.display())
    }
}
