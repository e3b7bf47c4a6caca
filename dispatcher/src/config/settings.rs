//! Every setting in one table: its name, default, limits and meaning. `--help` prints it and the reader obeys it.

/// One environment variable.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The variable.
    pub name: &'static str,
    /// What it is when it is not set; for a derived one, in words.
    pub default: &'static str,
    /// What may be written.
    pub limits: Limits,
    /// What it does.
    pub about: &'static str,
}

/// What may be written in a setting.
#[derive(Clone, Copy, Debug)]
pub enum Limits {
    /// Seconds, decimals allowed, both ends included.
    Seconds(f64, f64),
    /// A whole number, both ends included.
    Count(u64, u64),
    /// `true` or `false`.
    Flag,
    /// Text of the form that is named here.
    Text(&'static str),
}

const DAY_SECONDS: f64 = 86_400.0;
const GIB_BYTES: u64 = 1 << 30;

/// The table, in the order in which a reader wants to meet it.
pub const SETTINGS: &[Setting] = &[
    text(
        "DATABASE_URL",
        "postgresql://postgres:postgres@localhost:5432/webhook_dispatcher",
        "postgres:// or postgresql://",
        "The one Postgres. TLS by ?sslmode=verify-full&sslrootcert=FILE.",
    ),
    text(
        "BIND",
        "127.0.0.1:8000",
        "address:port",
        "Where the API listens.",
    ),
    text(
        "WEBHOOK_SECRET",
        "change-me-in-production",
        "whsec_<base64> or text, comma-separated",
        "Signs every delivery; several all sign, for rotation.",
    ),
    flag(
        "ALLOW_DEFAULT_SECRET",
        "false",
        "Boot with the published secret on a BIND that is not loopback.",
    ),
    text(
        "API_KEYS",
        "",
        "visible ASCII, comma-separated",
        "Who may use /events, as `Authorization: Bearer KEY`; empty: everybody.",
    ),
    text(
        "TARGET_URL",
        "",
        "http(s) URL",
        "Where events go that name no target_url.",
    ),
    text(
        "ALLOWED_TARGET_CIDRS",
        "",
        "CIDR ranges, comma-separated",
        "Private ranges where targets may be all the same, e.g. 10.0.0.0/8.",
    ),
    text(
        "EXTRA_CA_FILE",
        "",
        "path of a PEM file",
        "Certificate authorities trusted beside the system's.",
    ),
    seconds(
        "HTTP_TIMEOUT",
        "15",
        0.01,
        3_600.0,
        "One attempt in all: name resolution, connection, request, whole answer.",
    ),
    seconds(
        "LEASE_SECONDS",
        "2 x HTTP_TIMEOUT",
        0.1,
        DAY_SECONDS,
        "How long a claim is held; at least 1.5 x HTTP_TIMEOUT.",
    ),
    count(
        "MAX_ATTEMPTS",
        "20",
        1,
        1_000,
        "Failed attempts that make an event dead (`exhausted`).",
    ),
    seconds(
        "BACKOFF_BASE_SECONDS",
        "2",
        0.001,
        DAY_SECONDS,
        "The first delay; it doubles with each failure.",
    ),
    seconds(
        "BACKOFF_CAP_SECONDS",
        "3600",
        0.001,
        30.0 * DAY_SECONDS,
        "No delay (before jitter) is longer.",
    ),
    seconds(
        "RETRY_AFTER_CAP_SECONDS",
        "86400",
        0.0,
        30.0 * DAY_SECONDS,
        "As far as a receiver's Retry-After is followed.",
    ),
    count(
        "MAX_ABANDONED",
        "20",
        1,
        1_000,
        "Attempts in a row whose worker vanished that make an event dead (`abandoned`).",
    ),
    seconds(
        "WORKER_POLL_INTERVAL",
        "1.5",
        0.01,
        3_600.0,
        "The longest sleep between two looks for due events.",
    ),
    count(
        "MAX_IN_FLIGHT",
        "512",
        1,
        100_000,
        "Events that one process holds at once.",
    ),
    count(
        "MAX_IN_FLIGHT_PER_HOST",
        "64",
        1,
        100_000,
        "Attempts at one host and port at once.",
    ),
    seconds(
        "SHUTDOWN_SECONDS",
        "HTTP_TIMEOUT + 5",
        0.0,
        DAY_SECONDS,
        "How long a stop may take.",
    ),
    flag(
        "PRESENCE",
        "true",
        "Show by an advisory lock that this process lives; false behind a pooler in transaction mode.",
    ),
    count(
        "MAX_API_CONNECTIONS",
        "10000",
        1,
        1_000_000,
        "Clients connected at once; the idlest is closed for the next. Lowered to what the file descriptors allow.",
    ),
    count(
        "MAX_BODY_BYTES",
        "1048576",
        1,
        GIB_BYTES,
        "Bytes of the longest request body of POST /events.",
    ),
    count(
        "MAX_RESPONSE_BYTES",
        "1048576",
        0,
        GIB_BYTES,
        "Bytes of the longest answer of a receiver.",
    ),
    count(
        "RESPONSE_SNIPPET_BYTES",
        "1024",
        0,
        65_536,
        "Bytes of an answer that are kept for GET /events/{id}.",
    ),
    count(
        "ACCEPT_CONNECTIONS",
        "8",
        1,
        1_000,
        "Database connections for requests.",
    ),
    count(
        "WORK_CONNECTIONS",
        "4",
        1,
        1_000,
        "Database connections for the worker, beside one for its presence and one for health.",
    ),
    text(
        "LOG",
        "info",
        "tracing filter",
        "What is logged, e.g. `warn` or `info,dispatcher=debug`.",
    ),
    text("LOG_FORMAT", "text", "text or json", "How it is logged."),
];

/// The row of one setting.
///
/// # Panics
/// For a name that is not in the table: a typo in this program.
pub fn setting(name: &str) -> &'static Setting {
    let found = SETTINGS.iter().find(|setting| setting.name == name);
    found.unwrap_or_else(|| panic!("{name} is not in the table of settings"))
}

/// The table as `--help` shows it.
pub fn help() -> String {
    let mut lines = String::from("Settings (environment variables):\n");
    for setting in SETTINGS {
        let default = match setting.default {
            "" => "none",
            other => other,
        };
        lines += &format!(
            "\n  {}\n      {}\n      default: {default}; {}\n",
            setting.name, setting.about, setting.limits
        );
    }
    lines
}

impl std::fmt::Display for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Seconds(least, most) => write!(f, "{least} to {most} seconds"),
            Self::Count(least, most) => write!(f, "{least} to {most}"),
            Self::Flag => write!(f, "true or false"),
            Self::Text(form) => write!(f, "{form}"),
        }
    }
}

const fn text(
    name: &'static str,
    default: &'static str,
    form: &'static str,
    about: &'static str,
) -> Setting {
    Setting {
        name,
        default,
        limits: Limits::Text(form),
        about,
    }
}

const fn flag(name: &'static str, default: &'static str, about: &'static str) -> Setting {
    Setting {
        name,
        default,
        limits: Limits::Flag,
        about,
    }
}

const fn seconds(
    name: &'static str,
    default: &'static str,
    least: f64,
    most: f64,
    about: &'static str,
) -> Setting {
    Setting {
        name,
        default,
        limits: Limits::Seconds(least, most),
        about,
    }
}

const fn count(
    name: &'static str,
    default: &'static str,
    least: u64,
    most: u64,
    about: &'static str,
) -> Setting {
    Setting {
        name,
        default,
        limits: Limits::Count(least, most),
        about,
    }
}
