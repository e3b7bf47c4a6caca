//! The sources of a server, in the order in which they are tried.

use std::path::Path;

use url::Url;

use super::binaries::Binaries;
#[cfg(feature = "docker")]
use super::container;
use super::downloaded;
use super::error::{FailedSource, PostgresError};
use super::handle::{Postgres, Server, durability};
use super::machine::{Place, live_holder};
use super::wanted::{DATABASE_URL_VARIABLE, Wanted, given_url};

enum Source {
    Url(String),
    Container,
    Machine,
    Downloaded,
}

impl Postgres {
    /// Finds or starts a server.
    ///
    /// # Errors
    /// If no source works. The error lists each source with its reason and its fix.
    pub async fn obtain(wanted: Wanted) -> Result<Self, PostgresError> {
        let mut failed = Vec::new();
        for source in sources(wanted) {
            match source.start().await {
                Ok(postgres) => {
                    return Ok(Self { passed_over: failed, ..postgres });
                }
                Err(reason) => failed.push(reason),
            }
        }
        Err(PostgresError::NoneAvailable(failed))
    }

    /// Lists the sources that can be checked without a download. An unavailable one has its reason.
    pub async fn available_sources() -> Vec<(&'static str, Result<(), String>)> {
        let url = given_url().map(|_| ());
        let machine = Binaries::of_machine().await;
        vec![
            ("url", url.ok_or_else(|| format!("{DATABASE_URL_VARIABLE} is not set"))),
            ("container", engine_responds().await),
            ("machine", machine.map(|_| ()).map_err(|failed| failed.reason)),
        ]
    }

    /// Starts a server whose data in `directory` outlives it: the first start creates the data and
    /// later ones reuse it. Uses the binaries of this machine, else downloaded ones.
    ///
    /// If the harness runs as root, the unprivileged account of the server must reach `directory`;
    /// see [`super::reachable_directory`].
    ///
    /// # Errors
    /// The same as [`Postgres::obtain`]. Also if a running server uses the directory.
    pub async fn machine_at(directory: &Path) -> Result<Self, PostgresError> {
        let place = || Place::Kept(directory.to_path_buf());
        let of_machine = match Binaries::of_machine().await {
            Ok(binaries) => Self::start("machine", &binaries, place()).await,
            Err(reason) => Err(reason),
        };
        let first = match of_machine {
            Ok(postgres) => return Ok(postgres),
            // Other binaries cannot use a directory that a running server holds either.
            Err(reason) if holder_of(directory).is_some() => {
                return Err(PostgresError::NoneAvailable(vec![reason]));
            }
            Err(reason) => reason,
        };
        let of_download = match downloaded::binaries().await {
            Ok(binaries) => Self::start("downloaded", &binaries, place()).await,
            Err(reason) => Err(reason),
        };
        of_download.map_err(|second| PostgresError::NoneAvailable(vec![first, second]))
    }
}

/// Returns the process id of the running server that uses a directory of [`Postgres::machine_at`].
pub fn holder_of(directory: &Path) -> Option<u32> {
    live_holder(&directory.join("data"))
}

fn sources(wanted: Wanted) -> Vec<Source> {
    match wanted {
        Wanted::Any => match given_url() {
            // If the server at a given URL fails, another source would hide the error.
            Some(url) => vec![Source::Url(url)],
            None => vec![Source::Container, Source::Machine, Source::Downloaded],
        },
        Wanted::Url(url) => vec![Source::Url(url)],
        Wanted::Container => vec![Source::Container],
        Wanted::Machine => vec![Source::Machine],
        Wanted::Downloaded => vec![Source::Downloaded],
    }
}

impl Source {
    async fn start(self) -> Result<Postgres, FailedSource> {
        match self {
            Self::Url(url) => connect_to_given(url).await,
            Self::Container => start_container().await,
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

async fn connect_to_given(url: String) -> Result<Postgres, FailedSource> {
    let fix = format!("start that server, or correct or unset {DATABASE_URL_VARIABLE}");
    match durability(&url).await {
        Ok(durability) => Ok(Postgres {
            origin: format!("url: {}, {durability}", without_password(&url)),
            passed_over: Vec::new(),
            admin_url: url,
            server: Server::Given,
        }),
        Err(error) => Err(FailedSource {
            source: "url",
            reason: format!("{}: {error}", without_password(&url)),
            fix,
        }),
    }
}

#[cfg(feature = "docker")]
async fn start_container() -> Result<Postgres, FailedSource> {
    let started = container::Server::start().await?;
    let image = &started.image;
    let durability = durability(&started.admin_url).await.map_err(|error| FailedSource {
        source: "container",
        reason: format!("{image} started, but reading its settings failed: {error}"),
        fix: "set POSTGRES_IMAGE to another image".to_owned(),
    })?;
    Ok(Postgres {
        origin: format!("container: {image}, {durability}"),
        passed_over: Vec::new(),
        admin_url: started.admin_url,
        server: Server::Container(Box::new(started.server)),
    })
}

#[cfg(not(feature = "docker"))]
async fn start_container() -> Result<Postgres, FailedSource> {
    Err(FailedSource {
        source: "container",
        reason: "this build has no container support".to_owned(),
        fix: "build with the feature `docker`".to_owned(),
    })
}

#[cfg(feature = "docker")]
async fn engine_responds() -> Result<(), String> {
    crate::host::engine::Engine::connect().await.map(|_| ())
}

#[cfg(not(feature = "docker"))]
#[expect(clippy::unused_async, reason = "the build with containers has to await")]
async fn engine_responds() -> Result<(), String> {
    Err("this build has no container support (feature `docker`)".to_owned())
}

fn without_password(url: &str) -> String {
    match Url::parse(url) {
        Ok(mut parsed) => {
            if parsed.password().is_some() {
                // Only a URL without a host refuses a password, and this URL has a password.
                let _set = parsed.set_password(Some("***"));
            }
            parsed.into()
        }
        Err(_) => "a URL that cannot be parsed".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn password_is_never_shown() {
        let shown = without_password("postgresql://u:secret@h/d");
        assert_eq!(shown, "postgresql://u:***@h/d");
        assert!(!without_password("secret").contains("secret"));
    }
}
