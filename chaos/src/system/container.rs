//! Workers as containers: started and removed by testcontainers, signalled and paused through the
//! engine's API. A new container for every start, so that a restart finds nothing of the last one.
//!
//! They share the host's network: Postgres and the receivers listen on 127.0.0.1, which a bridge
//! would hide. Only an engine on this very machine will do, therefore; [`ContainerSystem::available`]
//! tells. No container is left behind: they are removed after their death, on drop, by a last will,
//! and, should all that fail, by the next harness.

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

use super::engine::{self, Engine, told};
use super::last_will::LastWill;
use super::worker::{DEATH_SECONDS_MAX, Started};
use super::{Exit, System, SystemError, WorkerSpec, image};
use crate::binary::named;

/// An exit code above this is this plus the signal that ended the process.
const SIGNAL_CODES_FROM: i64 = 128;
/// So many images are kept: one in use, and those of the last builds.
const IMAGES_KEPT: usize = 3;
/// Bound from death to the last line of the log, seconds.
const LOG_SECONDS_MAX: Duration = Duration::from_secs(5);

/// Pause before a container's end is waited for again, milliseconds.
const WAIT_AGAIN: Duration = Duration::from_millis(100);

/// The driver `container`.
#[derive(Debug)]
pub struct ContainerSystem {
    engine: Engine,
    image: GenericImage,
    program: PathBuf,
    workers: BTreeMap<String, Worker>,
}

#[derive(Debug)]
struct Worker {
    started: Started,
    id: String,
    log: Option<JoinHandle<()>>,
    /// `None` once it is removed.
    container: Option<ContainerAsync<GenericImage>>,
    will: Option<LastWill>,
}

impl ContainerSystem {
    /// Whether containers can be run here.
    ///
    /// # Errors
    /// The reason why not, for the report.
    pub async fn available() -> Result<(), String> {
        if !cfg!(target_os = "linux") {
            return Err("the image holds a program of this host, which is not Linux".to_owned());
        }
        let engine = Engine::connect().await?;
        engine.shares_this_network().await
    }

    /// Builds the image around `program`, unless it exists, and removes what an earlier harness
    /// left behind.
    ///
    /// # Errors
    /// When containers cannot be run here or the image cannot be built.
    pub async fn new(program: impl Into<PathBuf>) -> Result<Self, SystemError> {
        let unavailable = |why| SystemError::Unavailable {
            driver: "container",
            why,
        };
        Self::available().await.map_err(unavailable)?;
        let engine = Engine::connect().await.map_err(unavailable)?;
        engine.remove_leftovers().await;
        let program = program.into();
        let image = image::around(&program).await?;
        engine.prune(image::REPOSITORY, IMAGES_KEPT).await;
        Ok(Self {
            engine,
            image,
            program,
            workers: BTreeMap::new(),
        })
    }

    /// Id of a worker's container.
    pub fn container_id(&self, name: &str) -> Option<&str> {
        let worker = self
            .workers
            .get(name)
            .filter(|worker| worker.container.is_some())?;
        Some(&worker.id)
    }

    fn worker(&self, name: &str) -> Result<&Worker, SystemError> {
        self.workers
            .get(name)
            .ok_or_else(|| SystemError::Unknown(name.to_owned()))
    }

    async fn signal(&self, name: &str, signal: &str) -> Result<(), SystemError> {
        let worker = self.worker(name)?;
        if worker.started.exit().is_some() {
            return Ok(());
        }
        let options = KillContainerOptionsBuilder::default()
            .signal(signal)
            .build();
        match self
            .engine
            .docker
            .kill_container(&worker.id, Some(options))
            .await
        {
            // It ended by itself in the meantime.
            Err(EngineError::DockerResponseServerError {
                status_code: 404 | 409,
                ..
            })
            | Ok(()) => Ok(()),
            Err(error) => Err(refused(format!("sending {signal} to {name}"), &error)),
        }
    }

    /// Waits for the log's end, then removes the container.
    async fn clear(&mut self, name: &str) -> Result<(), SystemError> {
        let Some(worker) = self.workers.get_mut(name) else {
            return Ok(());
        };
        if let Some(log) = worker.log.take() {
            // A log that does not end is cut off here; the worker is dead.
            let _finished = timeout(LOG_SECONDS_MAX, log).await;
        }
        if let Some(container) = worker.container.take() {
            let removed = container.rm().await;
            removed
                .map_err(|error| refused(format!("removing the container of {name}"), &error))?;
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
        self.clear(&spec.name).await?;
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
        let container = request
            .start()
            .await
            .map_err(|error| refused(format!("starting a container for {}", spec.name), &error))?;
        let id = container.id().to_owned();
        let (sender, exit) = watch::channel(None);
        tokio::spawn(watch_end(self.engine.clone(), id.clone(), sender));
        let worker = Worker {
            started: Started::new(spec, exit),
            log: Some(tokio::spawn(follow(self.engine.clone(), id.clone(), log))),
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
        // The engine thaws a paused container so that the signal reaches it.
        self.signal(name, "SIGKILL").await?;
        let ended = self.worker(name)?.started.ended(DEATH_SECONDS_MAX).await;
        let exit = ended.ok_or_else(|| SystemError::Undying(name.to_owned()))?;
        self.clear(name).await?;
        Ok(exit)
    }

    async fn terminate(&mut self, name: &str, grace: Duration) -> Result<Exit, SystemError> {
        self.signal(name, "SIGTERM").await?;
        match self.worker(name)?.started.ended(grace).await {
            Some(exit) => {
                self.clear(name).await?;
                Ok(exit)
            }
            None => Ok(Exit {
                forced: true,
                ..self.kill(name).await?
            }),
        }
    }

    async fn pause(&mut self, name: &str) -> Result<(), SystemError> {
        let id = &self.worker(name)?.id;
        match self.engine.docker.pause_container(id).await {
            // Ended, or paused already.
            Err(EngineError::DockerResponseServerError {
                status_code: 409, ..
            })
            | Ok(()) => Ok(()),
            Err(error) => Err(refused(format!("pausing {name}"), &error)),
        }
    }

    async fn resume(&mut self, name: &str) -> Result<(), SystemError> {
        let id = &self.worker(name)?.id;
        match self.engine.docker.unpause_container(id).await {
            // It is not paused, or it is gone: what was asked for holds.
            Err(EngineError::DockerResponseServerError { .. }) | Ok(()) => Ok(()),
            Err(error) => Err(refused(format!("resuming {name}"), &error)),
        }
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
        let image = format!("{}:{}", self.image.name(), self.image.tag());
        format!(
            "container: {image} around {}, host network",
            named(&self.program)
        )
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
    let os = |source| SystemError::Os {
        doing: format!("opening {}", path.display()),
        source,
    };
    if let Some(directory) = path.parent() {
        tokio::fs::create_dir_all(directory).await.map_err(os)?;
    }
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .await
        .map_err(os)
}

/// Reports the end of a container to whoever waits.
async fn watch_end(engine: Engine, id: String, exit: watch::Sender<Option<Exit>>) {
    let code = loop {
        let mut ends = engine
            .docker
            .wait_container(&id, None::<WaitContainerOptions>);
        match ends.next().await {
            Some(Ok(end)) => break Some(end.status_code),
            Some(Err(EngineError::DockerContainerWaitError { code, .. })) => break Some(code),
            // The connection ended before the container did.
            _ if engine.runs(&id).await => sleep(WAIT_AGAIN).await,
            // The engine is gone, or the container was removed by force.
            _ => break None,
        }
    };
    // Nobody may be waiting any more: the system was dropped.
    let _told = exit.send(Some(exit_of(code)));
}

fn exit_of(code: Option<i64>) -> Exit {
    let number = |value: i64| i32::try_from(value).ok();
    match code {
        Some(code) if code > SIGNAL_CODES_FROM => Exit {
            code: None,
            signal: number(code - SIGNAL_CODES_FROM),
            forced: false,
        },
        code => Exit {
            code: code.and_then(number),
            signal: None,
            forced: false,
        },
    }
}

/// Appends a container's output to the worker's log until it ends.
async fn follow(engine: Engine, id: String, mut log: File) {
    let options = LogsOptionsBuilder::default()
        .follow(true)
        .stdout(true)
        .stderr(true)
        .build();
    let mut lines = engine.docker.logs(&id, Some(options));
    while let Some(Ok(line)) = lines.next().await {
        if log.write_all(&line.into_bytes()).await.is_err() {
            break;
        }
    }
    // What could not be written is missing in a log that nothing is judged by.
    let _flushed = log.flush().await;
}

fn refused(doing: String, error: &dyn std::error::Error) -> SystemError {
    SystemError::Engine {
        doing,
        why: told(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_code_above_128_is_a_signal() {
        assert_eq!(exit_of(Some(137)).signal, Some(9));
        assert!(exit_of(Some(0)).is_clean());
        assert_eq!(exit_of(Some(78)).code, Some(78));
        assert_eq!(
            exit_of(None),
            Exit {
                code: None,
                signal: None,
                forced: false
            }
        );
    }
}
