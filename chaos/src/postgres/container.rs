//! A server in a container, started by testcontainers with an image that is local or can be pulled.
//!
//! The Postgres module of testcontainers turns fsync off by default; this file turns it on. The
//! port is published only on 127.0.0.1. The container is removed on drop, and by a last will or the
//! next harness if the harness is killed.

use std::time::Duration;

use testcontainers::bollard::models::PortBinding;
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, ContainerRequest, ImageExt};
use testcontainers_modules::postgres;
use tokio::time::timeout;

use super::error::FailedSource;
use crate::host::engine::{self, Engine};
use crate::host::last_will::LastWill;

/// Environment variable with the name of the image.
const IMAGE_VARIABLE: &str = "POSTGRES_IMAGE";
/// Repository of local images that replace the public one if no registry responds.
const STAND_IN_REPOSITORY: &str = "local/postgres";
/// Image that is used if neither the variable nor a stand-in names one.
const PUBLIC_IMAGE: &str = "postgres:17-alpine";
/// Time limit of a pull of about 110 MB.
const PULL_TIMEOUT: Duration = Duration::from_secs(180);
/// Time limit from start to ready, including `initdb` in the container.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// Limit of concurrent connections.
const CONNECTIONS_MAX: &str = "max_connections=200";
/// Port of the server in the container.
const PORT: &str = "5432/tcp";

/// A running container. Dropping it removes the container.
#[derive(Debug)]
pub(super) struct Server {
    /// `None` only during the drop.
    container: Option<ContainerAsync<postgres::Postgres>>,
    id: String,
    _will: Option<LastWill>,
}

/// A container that has just been started.
pub(super) struct Started {
    pub(super) server: Server,
    pub(super) image: String,
    /// URL of the administrative database.
    pub(super) admin_url: String,
}

impl Server {
    /// Starts a container and waits until its server is ready.
    pub(super) async fn start() -> Result<Started, FailedSource> {
        let engine = Engine::connect().await.map_err(|reason| FailedSource {
            source: "container",
            reason,
            fix: "start a Docker engine, or set DOCKER_HOST to one".to_owned(),
        })?;
        engine.remove_leftovers().await;
        let image = find_image(&engine).await?;
        let failed = |reason: String| FailedSource {
            source: "container",
            reason: format!("{image}: {reason}"),
            fix: format!(
                "run `docker run {image}` to see its log, or set {IMAGE_VARIABLE} to another image"
            ),
        };
        let password = uuid::Uuid::new_v4().simple().to_string();
        let container = timeout(READY_TIMEOUT, request(&image, &password).start())
            .await
            .map_err(|_| failed(format!("not ready within {} s", READY_TIMEOUT.as_secs())))?
            .map_err(|error| failed(error.to_string()))?;
        let id = container.id().to_owned();
        let will = engine.leave_will(&id);
        let port = container
            .get_host_port_ipv4(5432)
            .await
            .map_err(|error| failed(format!("no published port: {error}")))?;
        let admin_url = format!("postgresql://postgres:{password}@127.0.0.1:{port}/postgres");
        Ok(Started {
            server: Self { container: Some(container), id, _will: will },
            image,
            admin_url,
        })
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(container) = self.container.take() {
            engine::remove_now(container);
        }
    }
}

fn request(image: &str, password: &str) -> ContainerRequest<postgres::Postgres> {
    // A colon before the last slash is part of the registry's address.
    let (name, tag) = match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (image, "latest"),
    };
    postgres::Postgres::default()
        .with_fsync_enabled()
        .with_password(password)
        .with_name(name)
        .with_tag(tag)
        .with_cmd(["-c", "fsync=on", "-c", "synchronous_commit=on", "-c", CONNECTIONS_MAX])
        .with_startup_timeout(READY_TIMEOUT)
        .with_labels(engine::labels())
        .with_host_config_modifier(|host| {
            let loopback = PortBinding {
                host_ip: Some("127.0.0.1".to_owned()),
                host_port: Some(String::new()),
            };
            host.publish_all_ports = Some(false);
            host.port_bindings = Some([(PORT.to_owned(), Some(vec![loopback]))].into());
        })
}

/// Returns the image of `POSTGRES_IMAGE`, else a stand-in, else the public image. Pulls it if it is
/// not local.
async fn find_image(engine: &Engine) -> Result<String, FailedSource> {
    let given = std::env::var(IMAGE_VARIABLE).ok().filter(|image| !image.is_empty());
    let image = match given {
        Some(image) => image,
        None => match engine.newest_image_of(STAND_IN_REPOSITORY).await {
            Some(image) => return Ok(image),
            None => PUBLIC_IMAGE.to_owned(),
        },
    };
    if engine.has_image(&image).await {
        return Ok(image);
    }
    eprintln!("pulling {image}");
    match timeout(PULL_TIMEOUT, engine.pull(&image)).await {
        Ok(Ok(())) => Ok(image),
        other => Err(FailedSource {
            source: "container",
            reason: match other {
                Ok(Err(reason)) => {
                    format!("{image} is not a local image and pulling it failed: {reason}")
                }
                _ => format!("{image} was not pulled within {} s", PULL_TIMEOUT.as_secs()),
            },
            fix: format!(
                "run `docker pull {image}`, set {IMAGE_VARIABLE} to another image, or run \
                 .ci/stand-in-images to build a local one"
            ),
        }),
    }
}
