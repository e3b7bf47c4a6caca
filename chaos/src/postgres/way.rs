//! The ways to a server, in the order in which they are tried.

use sqlx::{Connection, PgConnection};

use super::binaries::Binaries;
#[cfg(feature = "docker")]
use super::container;
use super::error::FailedWay;
use super::machine::Place;
use super::{DATABASE_URL_VARIABLE, Postgres, Server, Wanted, downloaded, without_password};

pub(super) enum Way {
    Url(String),
    Container,
    Machine,
    Downloaded,
}

pub(super) fn ways(wanted: Wanted) -> Vec<Way> {
    match wanted {
        Wanted::Any => match given_url() {
            // A URL that was given and fails is an error: falling back would hide it.
            Some(url) => vec![Way::Url(url)],
            None => vec![Way::Container, Way::Machine, Way::Downloaded],
        },
        Wanted::Url(url) => vec![Way::Url(url)],
        Wanted::Container => vec![Way::Container],
        Wanted::Machine => vec![Way::Machine],
        Wanted::Downloaded => vec![Way::Downloaded],
    }
}

impl Way {
    pub(super) async fn take(self) -> Result<Postgres, FailedWay> {
        match self {
            Self::Url(url) => connect(url).await,
            Self::Container => in_container().await,
            Self::Machine => {
                let binaries = Binaries::of_machine().await?;
                Postgres::start("machine", &binaries, Place::Temporary).await
            }
            Self::Downloaded => {
                let binaries = downloaded::binaries().await?;
                Postgres::start("downloaded", &binaries, Place::Temporary).await
            }
        }
    }
}

async fn connect(url: String) -> Result<Postgres, FailedWay> {
    let fix = format!("start that server, or correct or unset {DATABASE_URL_VARIABLE}");
    match durability(&url).await {
        Ok(durability) => Ok(Postgres {
            origin: format!("url: {}, {durability}", without_password(&url)),
            passed_over: Vec::new(),
            admin_url: url,
            server: Server::Given,
        }),
        Err(error) => Err(FailedWay {
            way: "url",
            why: format!("{}: {error}", without_password(&url)),
            fix,
        }),
    }
}

#[cfg(feature = "docker")]
async fn in_container() -> Result<Postgres, FailedWay> {
    let (server, image, admin_url) = container::Server::start().await?;
    let durability = durability(&admin_url).await.map_err(|error| FailedWay {
        way: "container",
        why: format!("{image} started, then could not be used: {error}"),
        fix: "try another image by POSTGRES_IMAGE".to_owned(),
    })?;
    Ok(Postgres {
        origin: format!("container: {image}, {durability}"),
        passed_over: Vec::new(),
        admin_url,
        server: Server::Container(Box::new(server)),
    })
}

#[cfg(not(feature = "docker"))]
async fn in_container() -> Result<Postgres, FailedWay> {
    Err(FailedWay {
        way: "container",
        why: "this build has no container support".to_owned(),
        fix: "build with the feature `docker`".to_owned(),
    })
}

/// Reads back from the server what its durability rests on.
pub(super) async fn durability(url: &str) -> Result<String, sqlx::Error> {
    let mut connection = PgConnection::connect(url).await?;
    let (version, fsync, commit): (String, String, String) = sqlx::query_as(
        "select current_setting('server_version'), current_setting('fsync'), \
         current_setting('synchronous_commit')",
    )
    .fetch_one(&mut connection)
    .await?;
    // What was asked is known; a connection that closes badly changes nothing.
    let _closed = connection.close().await;
    Ok(format!(
        "PostgreSQL {version}, fsync {fsync}, synchronous_commit {commit}"
    ))
}

/// Each way that can be asked without fetching anything, and why it cannot be taken.
pub(super) async fn here() -> Vec<(&'static str, Result<(), String>)> {
    let url = given_url().map(|_| ());
    let machine = Binaries::of_machine().await;
    vec![
        (
            "url",
            url.ok_or_else(|| format!("{DATABASE_URL_VARIABLE} is not set")),
        ),
        ("container", engine_here().await),
        ("machine", machine.map(|_| ()).map_err(|failed| failed.why)),
    ]
}

#[cfg(feature = "docker")]
async fn engine_here() -> Result<(), String> {
    crate::system::engine::Engine::connect().await.map(|_| ())
}

#[cfg(not(feature = "docker"))]
#[expect(clippy::unused_async, reason = "the other build has to ask")]
async fn engine_here() -> Result<(), String> {
    Err("this build has no containers (feature docker)".to_owned())
}

pub(super) fn given_url() -> Option<String> {
    std::env::var(DATABASE_URL_VARIABLE)
        .ok()
        .filter(|url| !url.is_empty())
}
