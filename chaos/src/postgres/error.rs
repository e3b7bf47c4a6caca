//! Errors of finding or starting a server. Each has its reason and its fix.

use std::fmt;

/// A source that failed to provide a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedSource {
    /// Name of the source: `url`, `container`, `machine` or `downloaded`.
    pub source: &'static str,
    /// The reason of the failure.
    pub reason: String,
    /// The change that makes the source work.
    pub fix: String,
}

impl fmt::Display for FailedSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n      fix: {}", self.source, self.reason, self.fix)
    }
}

/// Finding, starting or using a server failed.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// Every source failed.
    #[error("no Postgres is available{}", listed(.0))]
    NoneAvailable(Vec<FailedSource>),
    /// The caller wants the source `url`, and `CHAOS_DATABASE_URL` is not set.
    #[error("no URL was given: set CHAOS_DATABASE_URL=postgresql://user:password@host:port/db")]
    UrlNotGiven,
    /// The name of the source is unknown.
    #[error(
        "{0:?} is not a source of Postgres: use any, url, container, machine, downloaded, or a URL"
    )]
    UnknownSource(String),
    /// `create database` failed.
    #[error("creating the database {name}")]
    CreateDatabase {
        /// Name of the database.
        name: String,
        /// Error of the connection or of the statement.
        source: sqlx::Error,
    },
}

fn listed(sources: &[FailedSource]) -> String {
    // A single source fits on one line.
    if let [FailedSource { source, reason, fix }] = sources {
        return format!(": {source}: {reason}; fix: {fix}");
    }
    let sources = sources.iter().map(|source| format!("\n  - {source}"));
    format!("; tried in this order:{}", sources.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_lists_each_source_with_reason_and_fix() {
        let source = |source, reason: &str, fix: &str| FailedSource {
            source,
            reason: reason.into(),
            fix: fix.into(),
        };
        let error = PostgresError::NoneAvailable(vec![
            source("container", "no engine", "start one"),
            source("machine", "no initdb", "install it"),
        ]);
        assert_eq!(
            error.to_string(),
            "no Postgres is available; tried in this order:\
             \n  - container: no engine\n      fix: start one\
             \n  - machine: no initdb\n      fix: install it"
        );
    }
}
