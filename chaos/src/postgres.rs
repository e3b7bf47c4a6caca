//! Where a Postgres comes from: a URL that was given, a container, the machine's own binaries, or
//! downloaded ones, in that order, so that the harness runs on a machine that has only one of them.
//!
//! Every server that is started here keeps fsync on: a durability proof on a server without it
//! would prove nothing. Which way was taken is one line, [`Postgres::origin`].
//! This module must not know the dispatcher, its schema or its settings.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection, PgConnection};
use url::Url;

mod account;
mod binaries;
#[cfg(feature = "docker")]
mod container;
mod downloaded;
mod error;
mod machine;
mod own;
mod way;

use binaries::Binaries;
pub use error::{FailedWay, PostgresError};
use machine::{Cluster, Place};
pub use own::{OwnServer, OwnServerError};
use way::{durability, given_url, ways};

/// Environment variable with the URL of a server to use instead of starting one. Its role must be
/// allowed to create databases.
pub const DATABASE_URL_VARIABLE: &str = "CHAOS_DATABASE_URL";
/// The application name of every session of the harness's own: faults on sessions spare them.
pub const APPLICATION: &str = "chaos";
/// A database's name is cut to this many characters of its prefix: Postgres allows 63 in all.
const PREFIX_CHARACTERS_MAX: usize = 24;

/// Which way to a Postgres the caller wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The first way that works, in the order of the module's documentation.
    Any,
    /// The server behind this URL.
    Url(String),
    /// A container, by the engine that `DOCKER_HOST` names or the usual socket.
    Container,
    /// The machine's own binaries: `PG_BIN`, else the highest installed version.
    Machine,
    /// Binaries from a pinned PyPI wheel, kept for the next time.
    Downloaded,
}

impl FromStr for Wanted {
    type Err = PostgresError;

    /// Reads `any`, `url` (the URL is in `CHAOS_DATABASE_URL`), `container`, `machine`,
    /// `downloaded`, or a URL itself.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "any" => Ok(Self::Any),
            "url" => given_url().map(Self::Url).ok_or(PostgresError::UrlNotGiven),
            "container" => Ok(Self::Container),
            "machine" => Ok(Self::Machine),
            "downloaded" => Ok(Self::Downloaded),
            url if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
                Ok(Self::Url(url.to_owned()))
            }
            other => Err(PostgresError::UnknownWay(other.to_owned())),
        }
    }
}

/// A running server. Dropping it ends the server if it was started here.
#[derive(Debug)]
pub struct Postgres {
    origin: String,
    passed_over: Vec<FailedWay>,
    admin_url: String,
    server: Server,
}

#[derive(Debug)]
enum Server {
    /// Somebody else's: never stopped, and the databases made on it stay.
    Given,
    Started(Box<Cluster>),
    #[cfg(feature = "docker")]
    Container(Box<container::Server>),
}

impl Postgres {
    /// Finds or starts a server.
    ///
    /// # Errors
    /// Names every way that was tried, why it did not work and how to make it work.
    pub async fn obtain(wanted: Wanted) -> Result<Self, PostgresError> {
        let mut failed = Vec::new();
        for way in ways(wanted) {
            match way.take().await {
                Ok(postgres) => {
                    return Ok(Self {
                        passed_over: failed,
                        ..postgres
                    });
                }
                Err(reason) => failed.push(reason),
            }
        }
        Err(PostgresError::NoneAvailable(failed))
    }

    /// The ways to a server that can be asked without starting or fetching anything, and why one
    /// cannot be taken here.
    pub async fn ways_here() -> Vec<(&'static str, Result<(), String>)> {
        way::here().await
    }

    /// A server of the machine's own (else downloaded) binaries whose data in `directory` outlives
    /// it: made on the first start, reused later. As root, `directory` must be reachable by the
    /// unprivileged account; [`reachable_directory`] tells.
    ///
    /// # Errors
    /// As [`Postgres::obtain`]; also when another live server holds the directory.
    pub async fn machine_at(directory: &Path) -> Result<Self, PostgresError> {
        let place = || Place::Kept(directory.to_path_buf());
        let of_machine = match Binaries::of_machine().await {
            Ok(binaries) => Self::start("machine", &binaries, place()).await,
            Err(reason) => Err(reason),
        };
        let first = match of_machine {
            Ok(postgres) => return Ok(postgres),
            // Other binaries could not have a directory that a live server holds.
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

    /// One line: which way was taken, the version, and whether fsync is on.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The ways that were tried before the one taken, and why they did not work.
    pub fn passed_over(&self) -> &[FailedWay] {
        &self.passed_over
    }

    /// URL of the server's administrative database, with a role that may create databases.
    pub fn admin_url(&self) -> &str {
        &self.admin_url
    }

    /// The data directory, when the server was started from binaries here.
    pub fn data_dir(&self) -> Option<&Path> {
        match &self.server {
            Server::Started(cluster) => Some(cluster.data_dir()),
            _ => None,
        }
    }

    /// Process id of the postmaster, when the server was started from binaries here.
    pub fn pid(&self) -> Option<u32> {
        match &self.server {
            Server::Started(cluster) => cluster.pid(),
            _ => None,
        }
    }

    /// The server's log file, when the server was started from binaries here.
    pub fn log(&self) -> Option<&Path> {
        match &self.server {
            Server::Started(cluster) => Some(cluster.log()),
            _ => None,
        }
    }

    /// Id of the server's container, when it runs in one.
    pub fn container_id(&self) -> Option<&str> {
        match &self.server {
            #[cfg(feature = "docker")]
            Server::Container(container) => Some(container.id()),
            _ => None,
        }
    }

    /// Makes a fresh, empty database and returns its URL.
    ///
    /// # Errors
    /// When the server cannot be reached or the role may not create databases.
    pub async fn create_database(&self, prefix: &str) -> Result<String, PostgresError> {
        let unique = uuid::Uuid::new_v4().simple().to_string();
        let name = format!("{}_{unique}", database_prefix(prefix));
        self.create_named(&name).await?;
        Ok(with_database(&self.admin_url, &name))
    }

    /// The URL of the database `name`, which is made unless it exists.
    ///
    /// # Errors
    /// As [`Postgres::create_database`].
    pub async fn ensure_database(&self, name: &str) -> Result<String, PostgresError> {
        let name = database_prefix(name);
        let url = with_database(&self.admin_url, &name);
        if let Ok(connection) = PgConnection::connect(&url).await {
            drop(connection);
            return Ok(url);
        }
        self.create_named(&name).await?;
        Ok(url)
    }

    async fn create_named(&self, name: &str) -> Result<(), PostgresError> {
        let failed = |source| PostgresError::CreateDatabase {
            name: name.to_owned(),
            source,
        };
        let mut admin = PgConnection::connect(&self.admin_url)
            .await
            .map_err(failed)?;
        // template0 is never connected to, so that creations in parallel do not refuse each other.
        let sql = format!("create database \"{name}\" template template0 encoding 'UTF8'");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
            .execute(&mut admin)
            .await
            .map_err(failed)?;
        // The database exists; a connection that closes badly changes nothing.
        let _closed = admin.close().await;
        Ok(())
    }

    async fn start(
        way: &'static str,
        binaries: &Binaries,
        place: Place,
    ) -> Result<Self, FailedWay> {
        let cluster = Cluster::start(binaries, place)
            .await
            .map_err(|error| FailedWay {
                way,
                why: error.to_string(),
                fix: error.fix(binaries),
            })?;
        let admin_url = cluster.admin_url();
        let durability = durability(&admin_url).await.map_err(|error| FailedWay {
            way,
            why: format!("the server started, then refused to tell its settings: {error}"),
            fix: format!("read {}", cluster.log().display()),
        })?;
        let origin = format!(
            "{way}: {} as {}, {durability}",
            binaries.directory().display(),
            cluster.account_name()
        );
        Ok(Self {
            origin,
            passed_over: Vec::new(),
            admin_url,
            server: Server::Started(Box::new(cluster)),
        })
    }
}

/// A session of the harness's own.
///
/// # Errors
/// When the server does not take it.
pub async fn connect(url: &str) -> Result<PgConnection, sqlx::Error> {
    let options: PgConnectOptions = url.parse()?;
    options.application_name(APPLICATION).connect().await
}

/// `preferred` if the account that would run Postgres reaches it, else [`fallback_directory`].
pub fn reachable_directory(preferred: &Path, fallback_name: &str) -> PathBuf {
    account::reachable_directory(preferred, fallback_name)
}

/// A directory of this user's in a temporary directory that the same account reaches.
pub fn fallback_directory(name: &str) -> PathBuf {
    account::fallback_directory(name)
}

/// The process id of the live server that holds a directory of [`Postgres::machine_at`].
pub fn holder_of(directory: &Path) -> Option<u32> {
    machine::live_holder(&directory.join("data"))
}

fn with_database(url: &str, name: &str) -> String {
    let mut url = Url::parse(url).expect("the server has been reached by this URL");
    url.set_path(name);
    url.into()
}

fn without_password(url: &str) -> String {
    match Url::parse(url) {
        Ok(mut parsed) => {
            if parsed.password().is_some() {
                // Only a URL without a host refuses a password, and this one has one already.
                let _set = parsed.set_password(Some("***"));
            }
            parsed.into()
        }
        Err(_) => "a URL that cannot be parsed".to_owned(),
    }
}

/// Lower-case letters, digits and underscores of `prefix`: safe inside a quoted identifier.
fn database_prefix(prefix: &str) -> String {
    prefix
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '_'
            }
        })
        .take(PREFIX_CHARACTERS_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

    use super::*;

    #[test]
    fn a_database_prefix_cannot_leave_its_quotes() {
        assert_eq!(database_prefix("No\"; drop table x"), "no___drop_table_x");
        assert_eq!(
            database_prefix(&"a".repeat(80)).len(),
            PREFIX_CHARACTERS_MAX
        );
    }

    #[test]
    fn only_the_database_of_a_url_is_replaced() {
        assert_eq!(
            with_database(
                "postgresql://u:p@127.0.0.1:5432/postgres?sslmode=disable",
                "run_1"
            ),
            "postgresql://u:p@127.0.0.1:5432/run_1?sslmode=disable"
        );
    }

    #[test]
    fn a_password_is_never_shown() {
        let shown = without_password("postgresql://u:secret@h/d");
        assert_eq!(shown, "postgresql://u:***@h/d");
        assert!(!without_password("secret").contains("secret"));
    }

    #[test]
    fn every_way_has_a_name() {
        assert_eq!("any".parse::<Wanted>().unwrap(), Wanted::Any);
        assert_eq!("machine".parse::<Wanted>().unwrap(), Wanted::Machine);
        assert_eq!("container".parse::<Wanted>().unwrap(), Wanted::Container);
        assert_eq!("downloaded".parse::<Wanted>().unwrap(), Wanted::Downloaded);
        let url = "postgresql://u@h/d";
        assert_eq!(url.parse::<Wanted>().unwrap(), Wanted::Url(url.to_owned()));
        assert!(
            "sqlite"
                .parse::<Wanted>()
                .unwrap_err()
                .to_string()
                .contains("sqlite")
        );
    }
}
