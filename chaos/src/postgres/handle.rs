//! The handle of a running server: its URL, origin, data and databases.
//!
//! This file does not choose a source: `source.rs` makes the handles.

use std::path::Path;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection, PgConnection};
use url::Url;

use super::binaries::Binaries;
#[cfg(feature = "docker")]
use super::container;
use super::error::{FailedSource, PostgresError};
use super::machine::{Cluster, Place};

/// Application name of the harness's sessions. Faults on sessions spare the sessions with this
/// name.
pub const APPLICATION: &str = "chaos";
/// Number of characters of a prefix in a database name. Postgres allows 63 for the complete name.
const PREFIX_CHARACTERS_MAX: usize = 24;

/// A running server. Dropping it stops the server if it was started here.
#[derive(Debug)]
pub struct Postgres {
    pub(super) origin: String,
    pub(super) passed_over: Vec<FailedSource>,
    pub(super) admin_url: String,
    pub(super) server: Server,
}

#[derive(Debug)]
pub(super) enum Server {
    /// A server that was given by its URL. It is never stopped, and its databases stay.
    Given,
    Started(Box<Cluster>),
    #[cfg(feature = "docker")]
    Container(Box<container::Server>),
}

impl Postgres {
    /// Starts a server from `binaries`.
    pub(super) async fn start(
        source: &'static str,
        binaries: &Binaries,
        place: Place,
    ) -> Result<Self, FailedSource> {
        let cluster = Cluster::start(binaries, place).await.map_err(|error| FailedSource {
            source,
            reason: error.to_string(),
            fix: error.fix(binaries),
        })?;
        let admin_url = cluster.admin_url();
        let durability = durability(&admin_url).await.map_err(|error| FailedSource {
            source,
            reason: format!("the server started, but reading its settings failed: {error}"),
            fix: format!("read {}", cluster.log().display()),
        })?;
        let origin = format!(
            "{source}: {} as {}, {durability}",
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

    /// Returns one line with the source, the version and the durability settings of the server.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Lists the sources that were tried before this one, with the reasons of their failure.
    pub fn passed_over(&self) -> &[FailedSource] {
        &self.passed_over
    }

    /// Returns the URL of the administrative database. Its role may create databases.
    pub fn admin_url(&self) -> &str {
        &self.admin_url
    }

    /// Returns the data directory if the server was started from binaries here.
    pub fn data_dir(&self) -> Option<&Path> {
        self.cluster().map(Cluster::data_dir)
    }

    /// Returns the postmaster's process id if the server was started from binaries here and runs.
    pub fn pid(&self) -> Option<u32> {
        self.cluster().and_then(Cluster::pid)
    }

    /// Returns the server's log file if the server was started from binaries here.
    pub fn log(&self) -> Option<&Path> {
        self.cluster().map(Cluster::log)
    }

    fn cluster(&self) -> Option<&Cluster> {
        match &self.server {
            Server::Started(cluster) => Some(cluster),
            _ => None,
        }
    }

    pub(super) fn cluster_mut(&mut self) -> Option<&mut Cluster> {
        match &mut self.server {
            Server::Started(cluster) => Some(cluster),
            _ => None,
        }
    }

    /// Returns the id of the server's container if it runs in one.
    pub fn container_id(&self) -> Option<&str> {
        match &self.server {
            #[cfg(feature = "docker")]
            Server::Container(container) => Some(container.id()),
            _ => None,
        }
    }

    /// Creates an empty database with a unique name and returns its URL.
    ///
    /// # Errors
    /// If the connection fails or the role may not create databases.
    pub async fn create_database(&self, prefix: &str) -> Result<String, PostgresError> {
        let unique = uuid::Uuid::new_v4().simple().to_string();
        let name = format!("{}_{unique}", database_prefix(prefix));
        self.create_named(&name).await?;
        Ok(with_database(&self.admin_url, &name))
    }

    /// Returns the URL of the database `name` and creates that database if it does not exist.
    ///
    /// # Errors
    /// The same as [`Postgres::create_database`].
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
        let failed = |source| PostgresError::CreateDatabase { name: name.to_owned(), source };
        let mut admin = PgConnection::connect(&self.admin_url).await.map_err(failed)?;
        // A template with open sessions cannot be copied. template0 accepts no sessions, so
        // concurrent creations do not block each other.
        let sql = format!("create database \"{name}\" template template0 encoding 'UTF8'");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut admin).await.map_err(failed)?;
        // The database exists, so an error of the close does not matter.
        let _closed = admin.close().await;
        Ok(())
    }
}

/// Opens a session of the harness. Its application name is [`APPLICATION`].
///
/// # Errors
/// If the URL is invalid or the connection fails.
pub async fn connect(url: &str) -> Result<PgConnection, sqlx::Error> {
    let options: PgConnectOptions = url.parse()?;
    options.application_name(APPLICATION).connect().await
}

/// Reads the version and the durability settings from the server, for [`Postgres::origin`].
pub(super) async fn durability(url: &str) -> Result<String, sqlx::Error> {
    let mut connection = PgConnection::connect(url).await?;
    let (version, fsync, commit): (String, String, String) = sqlx::query_as(
        "select current_setting('server_version'), current_setting('fsync'), \
         current_setting('synchronous_commit')",
    )
    .fetch_one(&mut connection)
    .await?;
    // The settings are read, so an error of the close does not matter.
    let _closed = connection.close().await;
    Ok(format!("PostgreSQL {version}, fsync {fsync}, synchronous_commit {commit}"))
}

fn with_database(url: &str, name: &str) -> String {
    let mut url = Url::parse(url).expect("a connection to this URL has succeeded");
    url.set_path(name);
    url.into()
}

/// Returns lower-case letters, digits and underscores, which are safe in a quoted identifier.
fn database_prefix(prefix: &str) -> String {
    prefix
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' })
        .take(PREFIX_CHARACTERS_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn database_prefix_cannot_leave_its_quotes() {
        assert_eq!(database_prefix("No\"; drop table x"), "no___drop_table_x");
        assert_eq!(database_prefix(&"a".repeat(80)).len(), PREFIX_CHARACTERS_MAX);
    }

    #[test]
    fn only_the_database_of_a_url_is_replaced() {
        assert_eq!(
            with_database("postgresql://u:p@127.0.0.1:5432/postgres?sslmode=disable", "run_1"),
            "postgresql://u:p@127.0.0.1:5432/run_1?sslmode=disable"
        );
    }
}
