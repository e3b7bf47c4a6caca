//! The container engine, as far as the harness needs it: is it there, which images are at hand,
//! whose containers are whose.
//!
//! Every container that the harness starts carries a label that names the process that owns it, so
//! that what a killed harness left behind is found and removed by the next one, and nothing else is.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt;
use testcontainers::ContainerAsync;
use testcontainers::bollard::Docker;
use testcontainers::bollard::models::ContainerSummary;
use testcontainers::bollard::query_parameters::{
    CreateImageOptionsBuilder, InspectContainerOptions, ListContainersOptionsBuilder,
    ListImagesOptionsBuilder, RemoveContainerOptionsBuilder, RemoveImageOptions,
};
use testcontainers::core::client::docker_client_instance;
use tokio::time::timeout;

use super::last_will::LastWill;

/// Key of the label that names a container's owner.
const OWNER: &str = "webhook-dispatcher.chaos.owner";
/// An engine that does not answer a ping within this bound is not there.
const PING_SECONDS_MAX: Duration = Duration::from_secs(5);
/// Removes the container `$1`: by the engine's own client, else over its socket.
const REMOVE_CONTAINER: &str = r#"
docker rm -f -v "$1" && exit 0
socket=${DOCKER_HOST#unix://}
curl -sS -X DELETE --unix-socket "${socket:-/var/run/docker.sock}" "http://engine/containers/$1?force=1&v=1"
"#;

/// A connection to an engine that answered.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    pub(super) docker: Docker,
}

impl Engine {
    /// Connects to what `DOCKER_HOST` names, else to the usual socket.
    pub(crate) async fn connect() -> Result<Self, String> {
        let docker = docker_client_instance()
            .await
            .map_err(|error| told(&error))?;
        match timeout(PING_SECONDS_MAX, docker.ping()).await {
            Ok(Ok(_)) => Ok(Self { docker }),
            Ok(Err(error)) => Err(format!("no container engine answers: {}", told(&error))),
            Err(_) => Err(format!(
                "the container engine is silent for {} s",
                PING_SECONDS_MAX.as_secs()
            )),
        }
    }

    /// Whether a container on the host's network hears what listens on 127.0.0.1 here.
    pub(super) async fn shares_this_network(&self) -> Result<(), String> {
        let info = self.docker.info().await.map_err(|error| told(&error))?;
        let ours = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let security = info.security_options.unwrap_or_default();
        if security.iter().any(|option| option.contains("rootless")) {
            return Err(
                "the engine is rootless: its containers have a loopback of their own".into(),
            );
        }
        let named = info.operating_system.unwrap_or_default();
        if info.kernel_version.as_deref() != Some(ours.trim()) || named.contains("Desktop") {
            return Err(format!("the engine runs on another machine ({named})"));
        }
        Ok(())
    }

    pub(crate) async fn has_image(&self, image: &str) -> bool {
        self.docker.inspect_image(image).await.is_ok()
    }

    /// The image of this repository that was made last.
    pub(crate) async fn newest_of(&self, repository: &str) -> Option<String> {
        let filters = HashMap::from([("reference", vec![repository])]);
        let options = ListImagesOptionsBuilder::default()
            .filters(&filters)
            .build();
        let images = self.docker.list_images(Some(options)).await.ok()?;
        let newest = images.into_iter().max_by_key(|image| image.created)?;
        newest
            .repo_tags
            .into_iter()
            .find(|tag| tag.starts_with(repository))
    }

    /// Removes all but the newest images of a repository, so that rebuilt ones do not pile up. One
    /// that a container uses stays.
    pub(super) async fn prune(&self, repository: &str, kept: usize) {
        let filters = HashMap::from([("reference", vec![repository])]);
        let options = ListImagesOptionsBuilder::default()
            .filters(&filters)
            .build();
        let mut images = self
            .docker
            .list_images(Some(options))
            .await
            .unwrap_or_default();
        images.sort_by_key(|image| std::cmp::Reverse(image.created));
        for tag in images.iter().skip(kept).flat_map(|image| &image.repo_tags) {
            // In use, or removed by another harness meanwhile.
            let _removed = self
                .docker
                .remove_image(tag, None::<RemoveImageOptions>, None)
                .await;
        }
    }

    pub(crate) async fn pull(&self, image: &str) -> Result<(), String> {
        let options = CreateImageOptionsBuilder::default()
            .from_image(image)
            .build();
        let mut steps = self.docker.create_image(Some(options), None, None);
        while let Some(step) = steps.next().await {
            step.map_err(|error| told(&error))?;
        }
        Ok(())
    }

    /// Removes containers whose owner is gone.
    pub(crate) async fn remove_leftovers(&self) {
        let filters = HashMap::from([("label", vec![OWNER])]);
        let options = ListContainersOptionsBuilder::default()
            .all(true)
            .filters(&filters)
            .build();
        let containers = self
            .docker
            .list_containers(Some(options))
            .await
            .unwrap_or_default();
        for container in containers
            .iter()
            .filter(|container| is_left_over(container))
        {
            if let Some(id) = &container.id {
                // Another harness may be removing it at the same time.
                let _removed = self.remove(id).await;
            }
        }
    }

    pub(super) async fn runs(&self, id: &str) -> bool {
        let inspected = self
            .docker
            .inspect_container(id, None::<InspectContainerOptions>)
            .await;
        let state = inspected.ok().and_then(|container| container.state);
        state.and_then(|state| state.running).unwrap_or(false)
    }

    pub(super) async fn remove(&self, id: &str) -> Result<(), String> {
        let options = RemoveContainerOptionsBuilder::default()
            .force(true)
            .v(true)
            .build();
        self.docker
            .remove_container(id, Some(options))
            .await
            .map_err(|error| told(&error))
    }

    /// Has the container removed should this process be killed.
    pub(crate) fn leave_will(&self, id: &str) -> Option<LastWill> {
        // Without a shell the label is what remains: the next harness removes the container.
        LastWill::leave(REMOVE_CONTAINER, &[id]).ok()
    }
}

/// The label for what this process starts.
pub(crate) fn labels() -> [(String, String); 1] {
    [(OWNER.to_owned(), Owner::this_process().text())]
}

/// Removes a container from any thread, inside a runtime or outside of one.
pub(crate) fn remove_now<I: testcontainers::Image + 'static>(container: ContainerAsync<I>) {
    let removal = std::thread::spawn(move || {
        if let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
        {
            // It may be gone already; nobody is left to hear of it.
            let _removed = runtime.block_on(container.rm());
        }
    });
    let _joined = removal.join();
}

/// An error with its causes: the engine's own words are often the innermost.
pub(super) fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

fn is_left_over(container: &ContainerSummary) -> bool {
    let label = container
        .labels
        .as_ref()
        .and_then(|labels| labels.get(OWNER));
    let Some(owner) = label.and_then(|text| Owner::read(text)) else {
        return false;
    };
    owner.is_gone()
}

/// A process, told apart from one that got its number later.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Owner {
    /// The boot and the process namespace in which the number means something.
    world: String,
    pid: u32,
    started: String,
}

impl Owner {
    fn this_process() -> Self {
        let pid = std::process::id();
        Self {
            world: world(),
            pid,
            started: start_of(pid).unwrap_or_default(),
        }
    }

    fn text(&self) -> String {
        format!("{}/{}/{}", self.world, self.pid, self.started)
    }

    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let (world, pid, started) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self {
            world: world.to_owned(),
            pid: pid.parse().ok()?,
            started: started.to_owned(),
        })
    }

    /// Never true of a process that cannot be seen from here.
    fn is_gone(&self) -> bool {
        !self.started.is_empty()
            && self.world == world()
            && start_of(self.pid).as_deref() != Some(self.started.as_str())
    }
}

fn world() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let space = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    format!("{}-{}", boot.trim(), space.display())
}

/// When the process started, in clock ticks since boot.
fn start_of(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Field 22; the program's name, field 2, may hold spaces and ends with the last bracket.
    stat.rsplit(')')
        .next()?
        .split_whitespace()
        .nth(19)
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_dead_process_of_this_machine_owned_is_left_over() {
        let ours = Owner::this_process();
        assert_eq!(Owner::read(&ours.text()), Some(ours.clone()));
        assert!(!ours.is_gone());

        let reused = Owner {
            started: "1".into(),
            ..ours.clone()
        };
        assert!(
            reused.is_gone(),
            "the number belongs to another process now"
        );
        let elsewhere = Owner {
            world: "another boot".into(),
            ..reused
        };
        assert!(!elsewhere.is_gone());
        assert_eq!(Owner::read("not a label"), None);
    }

    #[test]
    fn an_error_is_told_with_its_causes() {
        let inner = std::io::Error::other("connection refused");
        let outer = sqlx::Error::Configuration(Box::new(inner));
        assert!(told(&outer).contains("connection refused"));
    }
}
