//! The settings: read once from the environment, validated together, all problems reported at once.
//!
//! Everything comes through a lookup closure, so that tests need no environment. Inside there are only valid values.

pub mod reader;
pub mod settings;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use self::reader::Reader;
pub use self::reader::{ConfigError, Problem};
use self::settings::SETTINGS;
use crate::backoff::Policy;
use crate::signature::Signer;
use crate::store::DatabaseUrl;
use crate::target::{AllowList, TargetUrl};

/// The secret of the demonstration; refused where strangers can reach it, unless it is asked for.
pub const DEFAULT_SECRET: &str = "change-me-in-production";

/// What a dispatcher runs with.
#[derive(Clone, Debug)]
pub struct Config {
    /// `BIND`: where the API listens.
    pub bind: SocketAddr,
    /// `DATABASE_URL`.
    pub database: DatabaseUrl,
    /// `ACCEPT_CONNECTIONS`: database connections for requests.
    pub accept_connections: u32,
    /// `WORK_CONNECTIONS`: database connections for the worker.
    pub work_connections: u32,
    /// What the API takes.
    pub api: ApiConfig,
    /// How the worker works.
    pub worker: WorkerConfig,
    /// How a request leaves.
    pub transport: TransportConfig,
    /// What is logged and how.
    pub log: LogConfig,
    /// Things that are allowed and that an operator should know.
    pub warnings: Vec<String>,
}

/// What is logged and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// `LOG`, which is known to be a filter.
    pub filter: String,
    /// `LOG_FORMAT` is `json`, not `text`.
    pub json: bool,
}

/// The limits and defaults of the API.
#[derive(Clone, Debug)]
pub struct ApiConfig {
    /// `TARGET_URL`, for events that name no target.
    pub default_target: Option<TargetUrl>,
    /// `MAX_API_CONNECTIONS`: clients connected at once.
    pub connections_max: u32,
    /// `MAX_BODY_BYTES`.
    pub body_bytes_max: usize,
    /// `API_KEYS`; empty leaves the API open.
    pub keys: Vec<String>,
    /// Where targets may be although their range is refused.
    pub allowed: AllowList,
}

/// The bounds and times of the worker.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// When and how often an event is tried again.
    pub policy: Policy,
    /// `WORKER_POLL_INTERVAL`: the longest sleep between two looks for due events.
    pub poll_interval: Duration,
    /// `LEASE_SECONDS`.
    pub lease: Duration,
    /// `HTTP_TIMEOUT`: one attempt, from name resolution to the last byte of the answer.
    pub http_timeout: Duration,
    /// `MAX_IN_FLIGHT`: events held at once.
    pub in_flight_max: usize,
    /// `MAX_IN_FLIGHT_PER_HOST`: attempts at one host and port at once.
    pub in_flight_per_host_max: usize,
    /// `SHUTDOWN_SECONDS`: how long a stop may take.
    pub shutdown: Duration,
    /// `PRESENCE`: whether this process holds an advisory lock that shows others that it lives.
    pub presence: bool,
}

/// How one attempt meets the network.
#[derive(Clone, Debug)]
pub struct TransportConfig {
    /// `WEBHOOK_SECRET`.
    pub signer: Signer,
    /// `HTTP_TIMEOUT` again: the attempt's total deadline.
    pub timeout: Duration,
    /// `MAX_RESPONSE_BYTES`.
    pub response_bytes_max: usize,
    /// `RESPONSE_SNIPPET_BYTES`.
    pub snippet_bytes_max: usize,
    /// `ALLOWED_TARGET_CIDRS`.
    pub allowed: AllowList,
    /// `EXTRA_CA_FILE`, read: whom targets may be vouched for by, beside the system's authorities.
    pub extra_authorities: RootCertStore,
    /// `MAX_IN_FLIGHT_PER_HOST` again: idle connections worth keeping.
    pub idle_per_host_max: usize,
}

impl Config {
    /// Reads the process's environment.
    ///
    /// # Errors
    /// Every setting that cannot be used, by name, each with what to write instead.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_os_lookup(|name| std::env::var_os(name))
    }

    /// Reads the settings through a closure.
    ///
    /// # Errors
    /// As [`Config::from_env`].
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        Self::from_os_lookup(|name| lookup(name).map(OsString::from))
    }

    /// A value that is no text is a problem, not an absent one: the default in its place would be a surprise.
    fn from_os_lookup(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Self, ConfigError> {
        let text = |name: &str| lookup(name).map(|value| value.to_string_lossy().into_owned());
        let mut read = Reader::new(&text);
        for setting in SETTINGS {
            if lookup(setting.name).is_some_and(|value| value.to_str().is_none()) {
                read.problem(setting.name, "is not UTF-8; write it in UTF-8".into());
            }
        }
        let config = read_all(&mut read);
        read.finish(config)
    }
}

/// `None` only when the reader has noted why.
fn read_all(read: &mut Reader<'_>) -> Option<Config> {
    let bind = read.parsed("BIND", |text| {
        text.parse::<SocketAddr>()
            .map_err(|_| "is no address and port; write one like 127.0.0.1:8000".into())
    });
    let database = read.parsed("DATABASE_URL", DatabaseUrl::parse);
    let allowed = read.parsed("ALLOWED_TARGET_CIDRS", AllowList::parse);
    let default_target = read.optional("TARGET_URL", |text| {
        TargetUrl::parse(text, allowed.as_ref().unwrap_or(&AllowList::default()))
            .map_err(|e| e.to_string())
    });
    let keys = read.parsed("API_KEYS", api_keys);
    let signer = read.parsed("WEBHOOK_SECRET", |text| {
        Signer::parse(text).map_err(|e| e.to_string())
    });
    let extra_authorities = read.optional("EXTRA_CA_FILE", authorities);
    let log = log(read);
    let worker = worker(read);
    let connections_max = read.small_count("MAX_API_CONNECTIONS");
    let body_bytes_max = read.count("MAX_BODY_BYTES");
    let response_bytes_max = read.count("MAX_RESPONSE_BYTES");
    let snippet_bytes_max = read.count("RESPONSE_SNIPPET_BYTES");
    let accept_connections = read.small_count("ACCEPT_CONNECTIONS");
    let work_connections = read.small_count("WORK_CONNECTIONS");
    let allow_default_secret = read.flag("ALLOW_DEFAULT_SECRET");
    let (bind, database, allowed, keys, signer) = (bind?, database?, allowed?, keys?, signer?);
    let log = log?;
    let warnings = exposure(read, bind, &keys, allow_default_secret);
    Some(Config {
        bind,
        database,
        accept_connections,
        work_connections,
        api: ApiConfig {
            default_target,
            connections_max,
            body_bytes_max,
            keys,
            allowed: allowed.clone(),
        },
        transport: TransportConfig {
            signer,
            timeout: worker.http_timeout,
            response_bytes_max,
            snippet_bytes_max,
            allowed,
            extra_authorities: extra_authorities.unwrap_or_else(RootCertStore::empty),
            idle_per_host_max: worker.in_flight_per_host_max,
        },
        worker,
        log,
        warnings,
    })
}

fn worker(read: &mut Reader<'_>) -> WorkerConfig {
    let policy = policy(read);
    let http_timeout = read.seconds("HTTP_TIMEOUT");
    let lease = read.seconds_or("LEASE_SECONDS", http_timeout * 2);
    let shutdown = read.seconds_or("SHUTDOWN_SECONDS", http_timeout + Duration::from_secs(5));
    if lease * 2 < http_timeout * 3 {
        let least = (http_timeout * 3 / 2).as_secs_f64();
        read.problem("LEASE_SECONDS", format!(
            "is under 1.5 times HTTP_TIMEOUT, so an attempt could outlive its lease; set it to {least} or more"
        ));
    }
    let in_flight_max = read.count("MAX_IN_FLIGHT");
    let in_flight_per_host_max = read.count("MAX_IN_FLIGHT_PER_HOST").min(in_flight_max);
    WorkerConfig {
        policy,
        poll_interval: read.seconds("WORKER_POLL_INTERVAL"),
        lease,
        http_timeout,
        in_flight_max,
        in_flight_per_host_max,
        shutdown,
        presence: read.flag("PRESENCE"),
    }
}

/// The certificates of a file that holds nothing but certificates that can be trusted, at least one.
fn authorities(path: &str) -> Result<RootCertStore, String> {
    let pem = std::fs::read(path)
        .map_err(|e| format!("{path:?} cannot be read ({e}); name a PEM file"))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate
            .map_err(|e| format!("{path:?} is no PEM ({e}); name a file of certificates"))?;
        roots
            .add(certificate)
            .map_err(|e| format!("{path:?} has a certificate that cannot be trusted ({e})"))?;
    }
    if roots.is_empty() {
        return Err(format!(
            "{path:?} has no certificate in it; name a PEM file that has"
        ));
    }
    Ok(roots)
}

fn log(read: &mut Reader<'_>) -> Option<LogConfig> {
    let filter = read.parsed("LOG", log_filter);
    let json = read.parsed("LOG_FORMAT", |text| match text {
        "text" => Ok(false),
        "json" => Ok(true),
        other => Err(format!("is {other:?}; write text or json")),
    });
    Some(LogConfig {
        filter: filter?,
        json: json?,
    })
}

/// A word alone must be a level: taken as a module's name, a mistyped level would silence everything.
fn log_filter(text: &str) -> Result<String, String> {
    let form = "write one like info or info,dispatcher=debug";
    // Blanks round commas are trimmed, as in every other list.
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    let text = parts.join(",");
    EnvFilter::try_new(&text).map_err(|e| format!("is no filter ({e}); {form}"))?;
    for part in parts {
        let alone = !part.is_empty() && !part.contains(['=', '[']);
        if alone && part.parse::<LevelFilter>().is_err() {
            return Err(format!("has {part:?}, which is no level; {form}"));
        }
    }
    Ok(text)
}

fn policy(read: &mut Reader<'_>) -> Policy {
    let policy = Policy {
        base: read.seconds("BACKOFF_BASE_SECONDS"),
        cap: read.seconds("BACKOFF_CAP_SECONDS"),
        retry_after_cap: read.seconds("RETRY_AFTER_CAP_SECONDS"),
        max_attempts: read.small_count("MAX_ATTEMPTS"),
        max_abandoned: read.small_count("MAX_ABANDONED"),
    };
    if policy.cap < policy.base {
        read.problem(
            "BACKOFF_CAP_SECONDS",
            "is under BACKOFF_BASE_SECONDS; raise it to that or more".into(),
        );
    }
    policy
}

fn api_keys(text: &str) -> Result<Vec<String>, String> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let keys = text.split(',').map(|key| {
        let key = key.trim();
        if key.is_empty() {
            return Err("has an empty entry; write keys separated by single commas".into());
        }
        if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("has a key that is not visible ASCII, which no header can carry".into());
        }
        Ok(key.to_owned())
    });
    keys.collect()
}

/// What strangers could do with this configuration: the worst is refused, the rest is said.
fn exposure(
    read: &mut Reader<'_>,
    bind: SocketAddr,
    keys: &[String],
    allow_default_secret: bool,
) -> Vec<String> {
    if bind.ip().is_loopback() {
        return Vec::new();
    }
    let mut warnings = Vec::new();
    let secrets = read.text("WEBHOOK_SECRET");
    if secrets
        .split(',')
        .any(|secret| secret.trim() == DEFAULT_SECRET)
    {
        if allow_default_secret {
            warnings.push(
                "WEBHOOK_SECRET is the published default: anybody can forge signatures".into(),
            );
        } else {
            read.problem(
                "WEBHOOK_SECRET",
                format!(
                    "is the published default although BIND ({bind}) is reachable from outside; \
                 set a secret of your own, or ALLOW_DEFAULT_SECRET=true for a demonstration"
                ),
            );
        }
    }
    if keys.is_empty() {
        warnings.push(format!(
            "API_KEYS is empty and BIND is {bind}: whoever reaches it can have anything signed and sent"
        ));
    }
    warnings
}
