//! A Postgres in a container, by testcontainers: only with an image that is at hand or can be
//! pulled within a bound, and never with fsync off (which is what the module does by default).
//!
//! The port is published on 127.0.0.1 alone. The container is labelled, removed on drop, and by a
//! last will should the harness be killed.

use std::time::Duration;

use testcontainers::bollard::models::PortBinding;
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, ContainerRequest, ImageExt};
use testcontainers_modules::postgres;
use tokio::time::timeout;

use super::error::FailedWay;
use crate::system::engine::{self, Engine};
use crate::system::last_will::LastWill;

/// Environment variable that names the image.
const IMAGE_VARIABLE: &str = "POSTGRES_IMAGE";
/// Repository of images that stand in for the public one where no registry answers.
const STAND_IN: &str = "local/postgres";
/// The public image.
const PUBLIC: &str = "postgres:17-alpine";
/// Bound of a pull, seconds: about 110 MB.
const PULL_SECONDS_MAX: Duration = Duration::from_secs(180);
/// Bound from start to ready, seconds: the image initialises a cluster first.
const READY_SECONDS_MAX: Duration = Duration::from_secs(120);
/// Clients that may be connected at once.
const CONNECTIONS_MAX: &str = "max_connections=200";
/// Port inside the container.
const PORT: &str = "5432/tcp";

/// A running container; dropping it removes it.
#[derive(Debug)]
pub(super) struct Server {
    /// `None` only while it is being dropped.
    container: Option<ContainerAsync<postgres::Postgres>>,
    id: String,
    _will: Option<LastWill>,
}

impl Server {
    /// The server, its image and the URL of its administrative database.
    pub(super) async fn start() -> Result<(Self, String, String), FailedWay> {
        let engine = Engine::connect().await.map_err(|why| FailedWay {
            way: "container",
            why,
            fix: "start a Docker engine, or set DOCKER_HOST to one".to_owned(),
        })?;
        engine.remove_leftovers().await;
        let image = image_at_hand(&engine).await?;
        let failed = |why: String| FailedWay {
            way: "container",
            why: format!("{image}: {why}"),
            fix: format!("docker run {image} tells more; another image by {IMAGE_VARIABLE}"),
        };
        let password = uuid::Uuid::new_v4().simple().to_string();
        let container = timeout(READY_SECONDS_MAX, request(&image, &password).start())
            .await
            .map_err(|_| {
                failed(format!(
                    "not ready within {} s",
                    READY_SECONDS_MAX.as_secs()
                ))
            })?
            .map_err(|error| failed(error.to_string()))?;
        let id = container.id().to_owned();
        let will = engine.leave_will(&id);
        let port = container
            .get_host_port_ipv4(5432)
            .await
            .map_err(|error| failed(format!("no published port: {error}")))?;
        let url = format!("postgresql://postgres:{password}@127.0.0.1:{port}/postgres");
        Ok((
            Self {
                container: Some(container),
                id,
                _will: will,
            },
            image,
            url,
        ))
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
    // A colon before the last slash belongs to a registry's port.
    let (name, tag) = match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (image, "latest"),
    };
    postgres::Postgres::default()
        .with_fsync_enabled()
        .with_password(password)
        .with_name(name)
        .with_tag(tag)
        .with_cmd([
            "-c",
            "fsync=on",
            "-c",
            "synchronous_commit=on",
            "-c",
            CONNECTIONS_MAX,
        ])
        .with_startup_timeout(READY_SECONDS_MAX)
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

/// `POSTGRES_IMAGE`, else a stand-in, else the public image, pulled if it must be.
async fn image_at_hand(engine: &Engine) -> Result<String, FailedWay> {
    let given = std::env::var(IMAGE_VARIABLE)
        .ok()
        .filter(|image| !image.is_empty());
    let image = match given {
        Some(image) => image,
        None => match engine.newest_of(STAND_IN).await {
            Some(image) => return Ok(image),
            None => PUBLIC.to_owned(),
        },
    };
    if engine.has_image(&image).await {
        return Ok(image);
    }
    eprintln!("pulling {image}");
    match timeout(PULL_SECONDS_MAX, engine.pull(&image)).await {
        Ok(Ok(())) => Ok(image),
        other => Err(FailedWay {
            way: "container",
            why: match other {
                Ok(Err(why)) => format!("{image} is not here and cannot be pulled: {why}"),
                _ => format!(
                    "{image} was not pulled within {} s",
                    PULL_SECONDS_MAX.as_secs()
                ),
            },
            fix: format!(
                "docker pull {image}, name another by {IMAGE_VARIABLE}, or make a stand-in: \
                 .ci/stand-in-images"
            ),
        }),
    }
}
