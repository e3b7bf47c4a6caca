//! `DATABASE_URL`: parsed at the start, so that a mistake in it ends the process with its reason.
//!
//! The driver ignores unknown parameters. Here they are errors.

use std::fmt;
use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;

/// Form of `DATABASE_URL` that its errors show.
const URL_FORM: &str = "postgresql://user:password@host:5432/database";

/// Parameters that the driver applies, as the error shows them. It ignores all others.
const PARAMETERS: &str = "sslmode, sslrootcert, sslcert, sslkey, host, hostaddr, port, dbname, \
                          user, password, application_name, options, statement-cache-capacity";

/// Name of the sessions in `pg_stat_activity`, unless the URL contains another one.
const APPLICATION_NAME: &str = "webhook-dispatcher";

/// `DATABASE_URL`, parsed.
#[derive(Clone)]
pub struct DatabaseUrl(pub(super) PgConnectOptions);

/// Reason why a `DATABASE_URL` is invalid. The text completes the sentence "DATABASE_URL …" and
/// never contains the password.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseUrlError {
    /// The text is not a URL.
    #[error("is not a URL ({0}); write one like {form}", form = URL_FORM)]
    NotUrl(#[source] url::ParseError),
    /// The scheme is neither `postgres` nor `postgresql`.
    #[error("starts with {0}:; write one like {form}", form = URL_FORM)]
    Scheme(String),
    /// The driver would ignore the parameter. A client that requests TLS by an unknown name must
    /// not get a plain connection.
    #[error(
        "has the unknown parameter {0:?}: remove it, or use one of {PARAMETERS} (for TLS, append \
         ?sslmode=verify-full&sslrootcert=FILE)"
    )]
    UnknownParameter(String),
    /// The part after `?` or `#` is probably the rest of a password.
    #[error("has an unexpected ? or #: in user, password and database, write them as %3F and %23")]
    NotEncoded,
    /// The driver connects to one host only.
    #[error("names several hosts: name one that leads to the primary server")]
    SeveralHosts,
    /// Postgres options cannot be read from the URL.
    #[error("cannot be used ({0}); write one like {form}", form = URL_FORM)]
    Unusable(#[source] sqlx::Error),
}

impl DatabaseUrl {
    /// Parses a `postgres://` URL.
    ///
    /// # Errors
    /// The text is not the URL of a Postgres database.
    pub fn parse(text: &str) -> Result<Self, DatabaseUrlError> {
        let url = url::Url::parse(text).map_err(DatabaseUrlError::NotUrl)?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(DatabaseUrlError::Scheme(url.scheme().to_owned()));
        }
        if url.fragment().is_some() {
            return Err(DatabaseUrlError::NotEncoded);
        }
        for (name, _) in url.query_pairs() {
            check_parameter(&name)?;
        }
        let options = PgConnectOptions::from_str(text).map_err(DatabaseUrlError::Unusable)?;
        if options.get_host().contains(',') {
            return Err(DatabaseUrlError::SeveralHosts);
        }
        let is_named = url.query_pairs().any(|(name, _)| name == "application_name");
        Ok(Self(if is_named { options } else { options.application_name(APPLICATION_NAME) }))
    }
}

fn check_parameter(name: &str) -> Result<(), DatabaseUrlError> {
    let is_known = PARAMETERS.split(", ").any(|known| known == name);
    // `options[NAME]` is a form of `options`.
    if is_known || (name.starts_with("options[") && name.ends_with(']')) {
        return Ok(());
    }
    // `&amp;` of HTML leaves `amp;` before the name.
    let mut bytes = name.trim_start_matches("amp;").bytes();
    match bytes.all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b'-') {
        true => Err(DatabaseUrlError::UnknownParameter(name.to_owned())),
        false => Err(DatabaseUrlError::NotEncoded),
    }
}

/// Shows host, port and database, never the password.
impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, port) = (self.0.get_host(), self.0.get_port());
        write!(f, "{host}:{port}/{}", self.0.get_database().unwrap_or("(default)"))
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        let parsed = DatabaseUrl::parse(text);
        parsed.expect_err(text).to_string()
    }

    // The driver connects without TLS if `sslmode` is mistyped, and logs one line at most.
    #[test]
    fn unknown_parameter_is_refused_by_name() {
        for name in [
            "ssl",
            "sslmod",
            "SSLMODE",
            "channel_binding",
            "schema",
            "search_path",
            "target_session_attrs",
            "connect_timeout",
            "amp;sslmode",
        ] {
            let error = error(&format!("postgres://u:secret@h/d?sslmode=require&{name}=x"));
            assert!(error.contains(&format!("{name:?}")), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn every_known_parameter_is_accepted() {
        for parameter in PARAMETERS.split(", ") {
            let value = match parameter {
                "sslmode" => "verify-full",
                "hostaddr" => "127.0.0.1",
                "port" | "statement-cache-capacity" => "1",
                _ => "x",
            };
            let url = format!("postgres://u@h/d?{parameter}={value}");
            assert!(DatabaseUrl::parse(&url).is_ok(), "{url}");
        }
        let options = "postgres://u@h/d?options=-c%20search_path%3Ds&options[work_mem]=8MB";
        assert!(DatabaseUrl::parse(options).is_ok());
    }

    // Each of these URLs is valid, and the rest of the password would be ignored or printed.
    #[test]
    fn password_that_is_not_encoded_is_refused_and_not_printed() {
        for url in [
            "postgres://user:5?secret@h/d",
            "postgres://user:5?secret@h/d?sslmode=require",
            "postgres://user:5#secret@h/d",
            "postgres://user:5/x@h/d#secret",
        ] {
            let error = error(url);
            assert!(error.contains("%3F") && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn several_hosts_are_refused() {
        for url in ["postgres://u@one,two/d", "postgres://u@one/d?host=one,two"] {
            assert!(error(url).contains("several hosts"), "{url}");
        }
    }

    #[test]
    fn encoded_user_and_database_are_decoded() {
        let url = DatabaseUrl::parse("postgres://us%40er:p%23%25%2F%3A@h:6/web%20hooks");
        let url = url.expect("the URL is valid");
        assert_eq!(url.0.get_username(), "us@er");
        assert_eq!(url.to_string(), "h:6/web hooks");
    }

    #[test]
    fn sessions_have_the_name_of_the_product_or_of_the_url() {
        for (query, name) in [("", APPLICATION_NAME), ("?application_name=mine", "mine")] {
            let url = DatabaseUrl::parse(&format!("postgres://u@h/d{query}"));
            let url = url.expect("the URL is valid");
            assert_eq!(url.0.get_application_name(), Some(name));
        }
    }
}
