//! What can go wrong on the way to a Postgres, told so that a person can act on it.

use std::fmt;

/// One way that was tried in vain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedWay {
    /// Its name: `url`, `container`, `machine`, `downloaded`.
    pub way: &'static str,
    /// Why it did not work.
    pub why: String,
    /// What makes it work.
    pub fix: String,
}

impl fmt::Display for FailedWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n      fix: {}", self.way, self.why, self.fix)
    }
}

/// A Postgres could not be had, or could not be used.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// No way worked.
    #[error("no Postgres could be had{}", listed(.0))]
    NoneAvailable(Vec<FailedWay>),
    /// The way `url` was asked for without a URL.
    #[error("no URL was given: set CHAOS_DATABASE_URL=postgresql://user:password@host:port/db")]
    UrlNotGiven,
    /// A way that does not exist was asked for.
    #[error("{0:?} is no way to a Postgres: any, url, container, machine, downloaded, or a URL")]
    UnknownWay(String),
    /// A database could not be made.
    #[error("creating the database {name}")]
    CreateDatabase {
        /// Its name.
        name: String,
        /// What the server or the connection said.
        source: sqlx::Error,
    },
}

fn listed(ways: &[FailedWay]) -> String {
    // Where one way alone was asked for, one line tells it.
    if let [FailedWay { way, why, fix }] = ways {
        return format!(": {way}: {why}; fix: {fix}");
    }
    let ways = ways.iter().map(|way| format!("\n  - {way}"));
    format!("; tried in this order:{}", ways.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_lists_each_way_with_its_reason_and_its_fix() {
        let way = |way, why: &str, fix: &str| FailedWay {
            way,
            why: why.into(),
            fix: fix.into(),
        };
        let error = PostgresError::NoneAvailable(vec![
            way("container", "no engine", "start one"),
            way("machine", "no initdb", "install it"),
        ]);
        assert_eq!(
            error.to_string(),
            "no Postgres could be had; tried in this order:\
             \n  - container: no engine\n      fix: start one\
             \n  - machine: no initdb\n      fix: install it"
        );
    }
}
