//! The driver `container`: testcontainers starts and removes workers, and the engine's API signals
//! and pauses them. Every start makes a new container, so that no state survives a restart.
//!
//! The containers use the host's network, because Postgres and the receivers listen on 127.0.0.1.
//! The engine must therefore run on this machine; [`ContainerSystem::available`] checks that.
//! Containers are removed when their worker has ended, on drop, by a last will if the harness is
//! killed, and at the latest by the next harness.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt;
use testcontainers::bollard::errors::Error as EngineError;
use testcontainers::bollard::query_parameters::{
    KillContainerOptionsBuilder, LogsOptionsBuilder, WaitContainerOptions,
};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, GenericImage, Image, ImageExt};
use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::driver::{Exit, System, SystemError, WorkerSpec};
use super::image;
use super::worker::{KILL_TIMEOUT, StartedWorker};
use crate::binary::named;
use crate::host::engine::{self, Engine, with_causes};
use crate::host::last_will::LastWill;

/// The engine reports signal `n` as exit code `SIGNAL_CODE_BASE + n`.
const SIGNAL_CODE_BASE: i64 = 128;
/// Number of images to keep: the current one and two of earlier builds.
const IMAGES_KEPT: usize = 3;
/// Time limit from the end of a worker to the end of its log.
const LOG_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause before the next request that waits for a container's end.
const WAIT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Runs one program as containers.
#[derive(Debug)]
pub struct ContainerSystem {
    engine: Engine,
    image: GenericImage,
    program: PathBuf,
    workers: BTreeMap<String, Worker>,
}

#[derive(Debug)]
struct Worker {
    started: StartedWorker,
    id: String,
    /// Task that copies the container's output to the log. `None` after the end of the worker.
    log: Option<JoinHandle<()>>,
    /// `None` after the container is removed.
    container: Option<ContainerAsync<GenericImage>>,
    will: Option<LastWill>,
}

impl ContainerSystem {
    /// Checks that containers can run here.
    ///
    /// # Errors
    /// Returns the reason if they cannot.
    pub async fn available() -> Result<(), String> {
        if !cfg!(target_os = "linux") {
            return Err(
                "the image contains a program of this host, and this host is not Linux".to_owned()
            );
        }
        let engine = Engine::connect().await?;
        engine.shares_this_network().await
    }

    /// Builds the image for `program` unless it exists, and removes containers of killed harnesses.
    ///
    /// # Errors
    /// If containers cannot run here or the image cannot be built.
    pub async fn new(program: impl Into<PathBuf>) -> Result<Self, SystemError> {
        let unavailable = |why| SystemError::Unavailable { driver: "container", why };
        Self::available().await.map_err(unavailable)?;
        let engine = Engine::connect().await.map_err(unavailable)?;
        engine.remove_leftovers().await;
        let program = program.into();
        let image = image::build(&program).await?;
        engine.prune(image::REPOSITORY, IMAGES_KEPT).await;
        Ok(Self { engine, image, program, workers: BTreeMap::new() })
    }

    /// Returns the id of a worker's container, or `None` if it is removed.
    pub fn container_id(&self, name: &str) -> Option<&str> {
        let worker = self.workers.get(name).filter(|worker| worker.container.is_some())?;
        Some(&worker.id)
    }

    fn worker(&self, name: &str) -> Result<&Worker, SystemError> {
        self.workers.get(name).ok_or_else(|| SystemError::Unknown(name.to_owned()))
    }

    async fn signal(&self, name: &str, signal: &str) -> Result<(), SystemError> {
        let worker = self.worker(name)?;
        if worker.started.exit().is_some() {
            return Ok(());
        }
        let options = KillContainerOptionsBuilder::default().signal(signal).build();
        match self.engine.docker.kill_container(&worker.id, Some(options)).await {
            // The container has already ended.
            Err(EngineError::DockerResponseServerError { status_code: 404 | 409, .. }) | Ok(()) => {
                Ok(())
            }
            Err(error) => Err(engine_error(format!("sending {signal} to {name}"), &error)),
        }
    }

    /// Waits until the log is complete, then removes the container.
    async fn remove(&mut self, name: &str) -> Result<(), SystemError> {
        let Some(worker) = self.workers.get_mut(name) else {
            return Ok(());
        };
        if let Some(log) = worker.log.take() {
            // The worker has ended. A log that is still incomplete is cut off here.
            let _finished = timeout(LOG_TIMEOUT, log).await;
        }
        if let Some(container) = worker.container.take() {
            let removed = container.rm().await;
            removed.map_err(|error| {
                engine_error(format!("removing the container of {name}"), &error)
            })?;
        }
        worker.will = None;
        Ok(())
    }
}

impl System for ContainerSystem {
    async fn start(&mut self, spec: &WorkerSpec) -> Result<(), SystemError> {
        if self.is_running(&spec.name) {
            return Err(SystemError::Running(spec.name.clone()));
        }
        self.remove(&spec.name).await?;
        let log = open_log(&spec.log).await?;
        let mut request = self
            .image
            .clone()
            .with_network("host")
            .with_labels(engine::labels())
            .with_host_config_modifier(|host| host.publish_all_ports = Some(false));
        for (name, value) in spec.full_env() {
            request = request.with_env_var(name, value);
        }
        let container = request.start().await.map_err(|error| {
            engine_error(format!("starting a container for {}", spec.name), &error)
        })?;
        let id = container.id().to_owned();
        let (sender, exit) = watch::channel(None);
        tokio::spawn(report_exit(self.engine.clone(), id.clone(), sender));
        let worker = Worker {
            started: StartedWorker::new(spec, exit),
            log: Some(tokio::spawn(copy_output(self.engine.clone(), id.clone(), log))),
            container: Some(container),
            will: self.engine.leave_will(&id),
            id,
        };
        self.workers.insert(spec.name.clone(), worker);
        Ok(())
    }

    async fn wait_ready(&self, name: &str, within: Duration) -> Result<(), SystemError> {
        self.worker(name)?.started.wait_ready(within).await
    }

    async fn kill(&mut self, name: &str) -> Result<Exit, SystemError> {
        // The engine resumes a paused container, so the signal takes effect.
        self.signal(name, "SIGKILL").await?;
        let exit = self.worker(name)?.started.wait_exit(KILL_TIMEOUT).await;
        let exit = exit.ok_or_else(|| SystemError::Undying(name.to_owned()))?;
        self.remove(name).await?;
        Ok(exit)
    }

    async fn terminate(&mut self, name: &str, grace: Duration) -> Result<Exit, SystemError> {
        self.signal(name, "SIGTERM").await?;
        match self.worker(name)?.started.wait_exit(grace).await {
            Some(exit) => {
                self.remove(name).await?;
                Ok(exit)
            }
            None => Ok(Exit { forced: true, ..self.kill(name).await? }),
        }
    }

    async fn pause(&mut self, name: &str) -> Result<(), SystemError> {
        let id = &self.worker(name)?.id;
        match self.engine.docker.pause_container(id).await {
            // The container has ended or is already paused.
            Err(EngineError::DockerResponseServerError { status_code: 409, .. }) | Ok(()) => Ok(()),
            Err(error) => Err(engine_error(format!("pausing {name}"), &error)),
        }
    }

    async fn resume(&mut self, name: &str) -> Result<(), SystemError> {
        let id = &self.worker(name)?.id;
        match self.engine.docker.unpause_container(id).await {
            // The container is not paused or no longer exists, so there is no pause to end.
            Err(EngineError::DockerResponseServerError { .. }) | Ok(()) => Ok(()),
            Err(error) => Err(engine_error(format!("resuming {name}"), &error)),
        }
    }

    fn is_running(&self, name: &str) -> bool {
        self.workers.get(name).is_some_and(|worker| worker.started.exit().is_none())
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
        let image = format!("{}:{}", self.image.name(), self.image.tag());
        format!("container: {image} with {}, host network", named(&self.program))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(container) = self.container.take() {
            engine::remove_now(container);
        }
    }
}

async fn open_log(path: &Path) -> Result<File, SystemError> {
    let os_error =
        |source| SystemError::Os { doing: format!("opening {}", path.display()), source };
    if let Some(directory) = path.parent() {
        tokio::fs::create_dir_all(directory).await.map_err(os_error)?;
    }
    File::options().create(true).append(true).open(path).await.map_err(os_error)
}

/// Waits until a container has ended and sends its exit status.
async fn report_exit(engine: Engine, id: String, exit: watch::Sender<Option<Exit>>) {
    let code = loop {
        let mut ends = engine.docker.wait_container(&id, None::<WaitContainerOptions>);
        match ends.next().await {
            Some(Ok(end)) => break Some(end.status_code),
            Some(Err(EngineError::DockerContainerWaitError { code, .. })) => break Some(code),
            // The connection to the engine ended before the container did.
            _ if engine.runs(&id).await => sleep(WAIT_RETRY_DELAY).await,
            // The engine has stopped, or the container was removed by force.
            _ => break None,
        }
    };
    // An error means that the driver was dropped, so no receiver remains.
    let _sent = exit.send(Some(exit_of(code)));
}

fn exit_of(code: Option<i64>) -> Exit {
    let number = |value: i64| i32::try_from(value).ok();
    match code {
        Some(code) if code > SIGNAL_CODE_BASE => {
            Exit { code: None, signal: number(code - SIGNAL_CODE_BASE), forced: false }
        }
        code => Exit { code: code.and_then(number), signal: None, forced: false },
    }
}

/// Appends a container's output to the worker's log until the container ends.
async fn copy_output(engine: Engine, id: String, mut log: File) {
    let options = LogsOptionsBuilder::default().follow(true).stdout(true).stderr(true).build();
    let mut lines = engine.docker.logs(&id, Some(options));
    while let Some(Ok(line)) = lines.next().await {
        if log.write_all(&line.into_bytes()).await.is_err() {
            break;
        }
    }
    // A failed write only shortens the log. No checker reads it.
    let _flushed = log.flush().await;
}

fn engine_error(doing: String, error: &dyn std::error::Error) -> SystemError {
    SystemError::Engine { doing, why: with_causes(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_code_above_128_is_a_signal() {
        assert_eq!(exit_of(Some(137)).signal, Some(9));
        assert!(exit_of(Some(0)).is_clean());
        assert_eq!(exit_of(Some(78)).code, Some(78));
        assert_eq!(exit_of(None), Exit::default());
    }
}
