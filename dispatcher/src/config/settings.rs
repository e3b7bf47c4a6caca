//! Table of all settings. The reader, `--help` and `docs/configuration.md` use it, so each default
//! and each limit stands in one place.
//!
//! Limits that depend on another setting are checked in `config.rs`.

/// One environment variable.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Name of the variable.
    pub name: &'static str,
    /// Value if the variable is not set; a formula if it depends on another setting. Empty: none.
    pub default: &'static str,
    /// Accepted values.
    pub limits: Limits,
    /// Meaning, in one to three sentences.
    pub about: &'static str,
}

/// Accepted values of a setting. `Display` prints them with their unit.
#[derive(Clone, Copy, Debug)]
pub enum Limits {
    /// Smallest and largest number of seconds, decimals allowed.
    Seconds(f64, f64),
    /// Smallest and largest whole number.
    Count(u64, u64),
    /// Smallest and largest number of bytes.
    Bytes(u64, u64),
    /// `true` or `false`.
    Flag,
    /// A text of the form that this phrase describes.
    Text(&'static str),
}

use Limits::{Bytes, Count, Flag, Seconds, Text};

const DAY_SECONDS: f64 = 86_400.0;
const MONTH_SECONDS: f64 = 30.0 * DAY_SECONDS;
const GIB_BYTES: u64 = 1 << 30;

/// A row of the table without its meaning, which `about` adds.
const fn row(name: &'static str, default: &'static str, limits: Limits) -> Setting {
    Setting { name, default, limits, about: "" }
}

impl Setting {
    const fn about(self, about: &'static str) -> Self {
        Self { about, ..self }
    }
}

/// All settings, in the order of `--help`.
pub const SETTINGS: &[Setting] = &[
    row(
        "DATABASE_URL",
        "postgresql://postgres:postgres@localhost:5432/webhook_dispatcher",
        Text("postgres:// or postgresql:// URL"),
    )
    .about(
        "Address of the Postgres database. For TLS, append \
         ?sslmode=verify-full&sslrootcert=FILE.",
    ),
    row("BIND", "127.0.0.1:8000", Text("address:port"))
        .about("Address on which the HTTP server listens."),
    row(
        "WEBHOOK_SECRET",
        "change-me-in-production",
        Text("text, or whsec_ and base64; comma-separated"),
    )
    .about("Secret that signs every delivery. Several secrets all sign, for rotation."),
    row("ALLOW_DEFAULT_SECRET", "false", Flag)
        .about("Permits the published default of WEBHOOK_SECRET on a BIND that is not loopback."),
    row("API_KEYS", "", Text("visible ASCII, comma-separated")).about(
        "Keys for /events, sent as `Authorization: Bearer KEY`. If not set, no key is \
         required. A blank value is refused.",
    ),
    row("TARGET_URL", "", Text("http or https URL"))
        .about("Target of events without a target_url. If empty, such events are refused."),
    row("ALLOWED_TARGET_CIDRS", "", Text("CIDR ranges, comma-separated"))
        .about("Private address ranges in which targets are allowed, e.g. 10.0.0.0/8."),
    row("EXTRA_CA_FILE", "", Text("path of a PEM file"))
        .about("Certificate authorities to trust for targets, in addition to those of the system."),
    row("HTTP_TIMEOUT", "15", Seconds(0.01, 3_600.0)).about(
        "Time limit of one attempt: name resolution, connection, request, complete \
         response.",
    ),
    row("LEASE_SECONDS", "2 x HTTP_TIMEOUT", Seconds(0.1, DAY_SECONDS))
        .about("Duration of the lease of a claim. Must be at least 1.5 x HTTP_TIMEOUT."),
    row("MAX_ATTEMPTS", "20", Count(1, 1_000))
        .about("Number of failed attempts after which an event is dead (`exhausted`)."),
    row("BACKOFF_BASE_SECONDS", "2", Seconds(0.001, DAY_SECONDS))
        .about("Delay after the first failure. Each further failure doubles the delay."),
    row("BACKOFF_CAP_SECONDS", "3600", Seconds(0.001, MONTH_SECONDS))
        .about("Longest delay before jitter. Must be at least BACKOFF_BASE_SECONDS."),
    row("RETRY_AFTER_CAP_SECONDS", "86400", Seconds(0.0, MONTH_SECONDS))
        .about("Longest delay that a receiver can request with Retry-After."),
    row("MAX_ABANDONED", "20", Count(1, 1_000)).about(
        "Number of consecutive attempts without a result, because the worker exited or its \
         lease expired, after which an event is dead (`abandoned`).",
    ),
    row("WORKER_POLL_INTERVAL", "1.5", Seconds(0.01, 3_600.0))
        .about("Longest time between two scans for due events."),
    row("MAX_IN_FLIGHT", "512", Count(1, 100_000))
        .about("Maximum number of claimed events per process."),
    row("MAX_IN_FLIGHT_PER_HOST", "64", Count(1, 100_000))
        .about("Maximum number of concurrent attempts per host and port."),
    row("CONNECTION_REUSE", "true", Flag).about(
        "Sends further requests to a host over an open connection. If false, each attempt \
         opens a connection.",
    ),
    row("SHUTDOWN_SECONDS", "HTTP_TIMEOUT + 5", Seconds(0.0, DAY_SECONDS)).about(
        "Time limit of a stop after SIGHUP, SIGINT, SIGQUIT or SIGTERM. A second signal ends \
         the process immediately.",
    ),
    row("PRESENCE", "true", Flag).about(
        "Holds a session lock that shows that this worker runs. Set it to false behind a \
         pooler in transaction mode.",
    ),
    row("MAX_API_CONNECTIONS", "10000", Count(1, 1_000_000)).about(
        "Maximum number of requests to /events in progress. Health and metrics have 16 more \
         connections. Beyond them, the connection that has been idle longest is closed. A \
         low limit of file descriptors lowers this maximum at start.",
    ),
    row("MAX_BODY_BYTES", "1048576", Bytes(1, GIB_BYTES)).about(
        "Maximum size of a request body of POST /events. Postgres cannot store more than \
         1 MiB below 1 GiB.",
    ),
    row("MAX_BODIES_BYTES", "268435456", Bytes(1, 1 << 40)).about(
        "Maximum total size of the request bodies that are being received. Counts as \
         MAX_BODY_BYTES if it is smaller. Beyond it, the response is 503.",
    ),
    row("MAX_RESPONSE_BYTES", "1048576", Bytes(0, GIB_BYTES))
        .about("Maximum size of a response of a receiver. A larger response fails the attempt."),
    row("RESPONSE_SNIPPET_BYTES", "1024", Bytes(0, 65_536))
        .about("Size of the part of a response that is stored for GET /events/{id}."),
    row("ACCEPT_CONNECTIONS", "4", Count(1, 1_000))
        .about("Number of database connections for API requests."),
    row("WORK_CONNECTIONS", "4", Count(1, 1_000)).about(
        "Number of database connections for the worker. Presence and health checks use one \
         more each.",
    ),
    row("LOG", "info", Text("tracing filter"))
        .about("Log filter, e.g. `warn` or `info,dispatcher=debug`."),
    row("LOG_FORMAT", "text", Text("text or json")).about("Format of the log lines."),
];

/// Returns the row of one setting.
///
/// # Panics
/// If the table has no such row, which is an error in this program.
pub(super) fn setting(name: &str) -> &'static Setting {
    let found = SETTINGS.iter().find(|setting| setting.name == name);
    found.unwrap_or_else(|| panic!("{name} is not in the table of settings"))
}

/// Returns the table for `--help`.
pub fn help() -> String {
    let mut lines = String::from("Settings (environment variables):\n");
    for setting in SETTINGS {
        let default = match setting.default {
            "" => "none",
            other => other,
        };
        lines += &format!(
            "\n  {}\n      {}\n      default: {default}; limits: {}\n",
            setting.name, setting.about, setting.limits
        );
    }
    lines
}

/// Returns the table for `docs/configuration.md`.
pub fn markdown() -> String {
    let mut lines = String::from("| Setting | Default | Limits | Meaning |\n|---|---|---|---|\n");
    for setting in SETTINGS {
        let default = match setting.default {
            "" => "none".to_owned(),
            other => format!("`{other}`"),
        };
        lines += &format!(
            "| `{}` | {default} | {} | {} |\n",
            setting.name, setting.limits, setting.about
        );
    }
    lines
}

impl std::fmt::Display for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Seconds(least, most) => write!(f, "{least} to {most} seconds"),
            Count(least, most) => write!(f, "{least} to {most}"),
            Bytes(least, most) => write!(f, "{least} to {most} bytes"),
            Flag => write!(f, "true or false"),
            Text(form) => write!(f, "{form}"),
        }
    }
}
