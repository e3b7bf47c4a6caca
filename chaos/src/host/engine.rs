//! Client of the container engine: connects, lists and pulls images, removes containers.
//!
//! Every container of the harness has a label with the harness process that started it. The next
//! harness uses the label to remove the containers of a killed harness, and no other container.

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
use super::owner::Owner;

/// Key of the container label with the [`Owner`].
const OWNER_LABEL: &str = "webhook-dispatcher.chaos.owner";
/// Time limit for the engine's response to a ping.
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// Script that removes the container `$1`: with the `docker` program, else over the engine's
/// socket.
const REMOVE_CONTAINER: &str = r#"
docker rm -f -v "$1" && exit 0
socket=${DOCKER_HOST#unix://}
curl -sS -X DELETE --unix-socket "${socket:-/var/run/docker.sock}" "http://engine/containers/$1?force=1&v=1"
"#;

/// A connection to an engine that has responded to a ping.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    pub(crate) docker: Docker,
}

impl Engine {
    /// Connects to the engine at `DOCKER_HOST`, else at the default socket.
    ///
    /// # Errors
    /// Returns the reason if no engine responds.
    pub(crate) async fn connect() -> Result<Self, String> {
        let docker = docker_client_instance().await.map_err(|error| with_causes(&error))?;
        match timeout(PING_TIMEOUT, docker.ping()).await {
            Ok(Ok(_)) => Ok(Self { docker }),
            Ok(Err(error)) => Err(format!("no container engine responds: {}", with_causes(&error))),
            Err(_) => Err(format!(
                "the container engine did not respond within {} s",
                PING_TIMEOUT.as_secs()
            )),
        }
    }

    /// Checks that a container on the host's network reaches listeners on this machine's 127.0.0.1.
    ///
    /// # Errors
    /// Returns the reason if it does not.
    pub(crate) async fn shares_this_network(&self) -> Result<(), String> {
        let info = self.docker.info().await.map_err(|error| with_causes(&error))?;
        let this_kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let security = info.security_options.unwrap_or_default();
        if security.iter().any(|option| option.contains("rootless")) {
            return Err("the engine is rootless: its containers have a separate loopback".into());
        }
        let named = info.operating_system.unwrap_or_default();
        if info.kernel_version.as_deref() != Some(this_kernel.trim()) || named.contains("Desktop") {
            return Err(format!("the engine runs on another machine ({named})"));
        }
        Ok(())
    }

    /// Returns true if the engine has the image locally.
    pub(crate) async fn has_image(&self, image: &str) -> bool {
        self.docker.inspect_image(image).await.is_ok()
    }

    /// Returns the newest local image of a repository.
    pub(crate) async fn newest_image_of(&self, repository: &str) -> Option<String> {
        let filters = HashMap::from([("reference", vec![repository])]);
        let options = ListImagesOptionsBuilder::default().filters(&filters).build();
        let images = self.docker.list_images(Some(options)).await.ok()?;
        let newest = images.into_iter().max_by_key(|image| image.created)?;
        newest.repo_tags.into_iter().find(|tag| tag.starts_with(repository))
    }

    /// Removes all images of a repository except the `kept` newest ones. The engine keeps an image
    /// that a container uses.
    pub(crate) async fn prune(&self, repository: &str, kept: usize) {
        let filters = HashMap::from([("reference", vec![repository])]);
        let options = ListImagesOptionsBuilder::default().filters(&filters).build();
        let mut images = self.docker.list_images(Some(options)).await.unwrap_or_default();
        images.sort_by_key(|image| std::cmp::Reverse(image.created));
        for tag in images.iter().skip(kept).flat_map(|image| &image.repo_tags) {
            // The image is in use, or another harness has removed it.
            let _removed = self.docker.remove_image(tag, None::<RemoveImageOptions>, None).await;
        }
    }

    /// Pulls an image from its registry. Has no time limit.
    pub(crate) async fn pull(&self, image: &str) -> Result<(), String> {
        let options = CreateImageOptionsBuilder::default().from_image(image).build();
        let mut steps = self.docker.create_image(Some(options), None, None);
        while let Some(step) = steps.next().await {
            step.map_err(|error| with_causes(&error))?;
        }
        Ok(())
    }

    /// Removes the containers of harness processes that have exited.
    pub(crate) async fn remove_leftovers(&self) {
        let filters = HashMap::from([("label", vec![OWNER_LABEL])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let containers = self.docker.list_containers(Some(options)).await.unwrap_or_default();
        for container in containers.iter().filter(|container| is_left_over(container)) {
            if let Some(id) = &container.id {
                // An error means that another harness has removed it.
                let _removed = self.remove(id).await;
            }
        }
    }

    /// Returns true if the container exists and runs.
    pub(crate) async fn runs(&self, id: &str) -> bool {
        let inspected = self.docker.inspect_container(id, None::<InspectContainerOptions>).await;
        let state = inspected.ok().and_then(|container| container.state);
        state.and_then(|state| state.running).unwrap_or(false)
    }

    async fn remove(&self, id: &str) -> Result<(), String> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        self.docker.remove_container(id, Some(options)).await.map_err(|error| with_causes(&error))
    }

    /// Leaves a last will that removes the container if this process is killed.
    pub(crate) fn leave_will(&self, id: &str) -> Option<LastWill> {
        // Without a shell, the next harness finds the container by its label and removes it.
        LastWill::leave(REMOVE_CONTAINER, &[id]).ok()
    }
}

/// Returns the owner label for a container of this process.
pub(crate) fn labels() -> [(String, String); 1] {
    [(OWNER_LABEL.to_owned(), Owner::this_process().label())]
}

/// Removes a container and waits until that is done. Works inside and outside of a runtime, because
/// it uses a separate thread.
pub(crate) fn remove_now<I: testcontainers::Image + 'static>(container: ContainerAsync<I>) {
    let removal = std::thread::spawn(move || {
        if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
            // An error means that the container has already been removed.
            let _removed = runtime.block_on(container.rm());
        }
    });
    let _joined = removal.join();
}

/// Formats an error with its causes. The innermost cause often has the engine's message.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
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
    let label = container.labels.as_ref().and_then(|labels| labels.get(OWNER_LABEL));
    label.and_then(|label| Owner::parse(label)).is_some_and(|owner| owner.has_exited())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_text_includes_its_causes() {
        let inner = std::io::Error::other("connection refused");
        let outer = sqlx::Error::Configuration(Box::new(inner));
        assert!(with_causes(&outer).contains("connection refused"));
    }
}
