//! Settings: read once from the environment, validated together, all problems reported together.
//!
//! The values come through a lookup closure, so a test needs no environment. The rest of the
//! program sees only valid values. The table of settings is in [`settings`].

mod reader;
pub mod settings;
#[cfg(test)]
mod tests;
mod values;

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::time::Duration;

use rustls::RootCertStore;

use self::reader::Reader;
pub use self::reader::{ConfigError, SettingError};
use self::settings::{SETTINGS, Setting};
use crate::backoff::Policy;
use crate::signature::Signer;
use crate::store::{BODY_BYTES_MAX, DatabaseUrl, StoreOptions};
use crate::target::{AllowList, Destination};

/// Settings of a dispatcher process.
#[derive(Clone, Debug)]
pub struct Config {
    /// `BIND`.
    pub bind: SocketAddr,
    /// Address of the database and sizes of its pools.
    pub store: StoreOptions,
    /// Limits and defaults for requests.
    pub api: ApiConfig,
    /// Limits and times of deliveries.
    pub worker: WorkerConfig,
    /// Settings of one attempt.
    pub transport: TransportConfig,
    /// Filter and format of the log.
    pub log: LogConfig,
    /// Valid but risky combinations, logged at start.
    pub warnings: Vec<String>,
}

/// Filter and format of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// `LOG`, a valid filter.
    pub filter: String,
    /// True if `LOG_FORMAT` is `json`, false if it is `text`.
    pub json: bool,
}

/// Settings of the API.
#[derive(Clone, Debug)]
pub struct ApiConfig {
    /// `TARGET_URL`, the target of events without one.
    pub default_target: Option<String>,
    /// `MAX_API_CONNECTIONS`, or less if file descriptors are scarce.
    pub connections_max: u32,
    /// `MAX_BODY_BYTES`.
    pub body_bytes_max: usize,
    /// `MAX_BODIES_BYTES`, at least `MAX_BODY_BYTES`.
    pub bodies_bytes_max: usize,
    /// `API_KEYS`. If empty, no key is required.
    pub keys: Vec<String>,
    /// `ALLOWED_TARGET_CIDRS`.
    pub allowed: AllowList,
}

/// Settings of the worker.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// Retry rule: the settings of backoff and attempts.
    pub policy: Policy,
    /// `WORKER_POLL_INTERVAL`.
    pub poll_interval: Duration,
    /// `LEASE_SECONDS`.
    pub lease: Duration,
    /// `HTTP_TIMEOUT`.
    pub http_timeout: Duration,
    /// `MAX_IN_FLIGHT`.
    pub in_flight_max: usize,
    /// `MAX_IN_FLIGHT_PER_HOST`, at most `MAX_IN_FLIGHT`.
    pub in_flight_per_host_max: usize,
    /// `SHUTDOWN_SECONDS`.
    pub shutdown: Duration,
    /// `PRESENCE`.
    pub presence: bool,
}

/// Settings of the transport.
#[derive(Clone, Debug)]
pub struct TransportConfig {
    /// Signs with every secret of `WEBHOOK_SECRET`.
    pub signer: Signer,
    /// `HTTP_TIMEOUT`, the time limit of the whole attempt.
    pub timeout: Duration,
    /// `MAX_RESPONSE_BYTES`.
    pub response_bytes_max: usize,
    /// `RESPONSE_SNIPPET_BYTES`.
    pub snippet_bytes_max: usize,
    /// `ALLOWED_TARGET_CIDRS`.
    pub allowed: AllowList,
    /// Certificates of `EXTRA_CA_FILE`, trusted in addition to those of the system.
    pub extra_authorities: RootCertStore,
    /// Maximum number of idle connections per host: `MAX_IN_FLIGHT_PER_HOST`.
    pub idle_per_host_max: usize,
    /// Maximum number of idle connections to all hosts: `MAX_IN_FLIGHT`, or less if file descriptors
    /// are scarce.
    pub idle_max: usize,
    /// `CONNECTION_REUSE`.
    pub connection_reuse: bool,
}

impl Config {
    /// Reads the environment of this process.
    ///
    /// # Errors
    /// Lists all invalid settings, each with its fix.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_lookup(|name| std::env::var_os(name))
    }

    /// Reads the settings through a closure. A value that is not UTF-8 is invalid. If it counted as
    /// absent, the default would replace it without a message.
    ///
    /// # Errors
    /// As [`Config::from_env`].
    pub fn from_lookup<T: AsRef<OsStr>>(
        lookup: impl Fn(&str) -> Option<T>,
    ) -> Result<Self, ConfigError> {
        let text = |name: &str| Some(lookup(name)?.as_ref().to_string_lossy().into_owned());
        let mut reader = Reader::new(&text);
        for Setting { name, .. } in SETTINGS {
            if lookup(name).is_some_and(|value| value.as_ref().to_str().is_none()) {
                reader.invalid(name, format!("{name} is not UTF-8: set it in UTF-8"));
            }
        }
        let config = read_all(&mut reader);
        reader.finish(config)
    }
}

/// Reads every setting, so that the reader reports all invalid ones.
fn read_all(reader: &mut Reader<'_>) -> Config {
    let bind = reader.parsed("BIND", values::address);
    let database = reader.secret("DATABASE_URL", DatabaseUrl::parse);
    let allowed = reader.parsed("ALLOWED_TARGET_CIDRS", AllowList::parse);
    // Compose files set an absent value to the empty text, so that counts as absent. The URL may
    // contain a password, which `Destination` refuses.
    let default_target = reader.secret("TARGET_URL", |text| match text {
        "" => Ok(None),
        text => Destination::parse(text, &allowed).map(|_| Some(text.to_owned())),
    });
    let keys = api_keys(reader);
    let signer = reader.secret("WEBHOOK_SECRET", Signer::parse);
    let extra_authorities = reader.parsed("EXTRA_CA_FILE", values::authorities);
    let log = LogConfig {
        filter: reader.parsed("LOG", values::log_filter),
        json: reader.parsed("LOG_FORMAT", values::is_json),
    };
    let worker = worker(reader);
    let connections_max = reader.small_count("MAX_API_CONNECTIONS");
    let body_bytes_max = reader.count("MAX_BODY_BYTES").min(BODY_BYTES_MAX);
    let api = ApiConfig {
        default_target,
        connections_max,
        body_bytes_max,
        bodies_bytes_max: reader.count("MAX_BODIES_BYTES").max(body_bytes_max),
        keys,
        allowed: allowed.clone(),
    };
    let transport = TransportConfig {
        signer,
        timeout: worker.http_timeout,
        response_bytes_max: reader.count("MAX_RESPONSE_BYTES"),
        snippet_bytes_max: reader.count("RESPONSE_SNIPPET_BYTES"),
        allowed,
        extra_authorities,
        idle_per_host_max: worker.in_flight_per_host_max,
        idle_max: worker.in_flight_max,
        connection_reuse: reader.flag("CONNECTION_REUSE"),
    };
    let store = StoreOptions {
        database,
        accept_connections: reader.small_count("ACCEPT_CONNECTIONS"),
        work_connections: reader.small_count("WORK_CONNECTIONS"),
    };
    let warnings = [check_secret(reader, bind), check_keys(bind, &api.keys)];
    let warnings = warnings.into_iter().flatten().collect();
    Config { bind, store, api, worker, transport, log, warnings }
}

/// A blank value is invalid, so that a failed substitution does not open the API.
fn api_keys(reader: &mut Reader<'_>) -> Vec<String> {
    let keys = reader.given("API_KEYS").map(|text| values::api_keys(&text));
    keys.unwrap_or_else(|| Ok(Vec::new())).unwrap_or_else(|error| {
        reader.invalid("API_KEYS", format!("API_KEYS {error}"));
        Vec::new()
    })
}

fn worker(reader: &mut Reader<'_>) -> WorkerConfig {
    let policy = policy(reader);
    let http_timeout = reader.seconds("HTTP_TIMEOUT");
    let lease = reader.seconds_or("LEASE_SECONDS", http_timeout * 2);
    let shutdown = reader.seconds_or("SHUTDOWN_SECONDS", http_timeout + Duration::from_secs(5));
    // Otherwise an attempt could outlive its lease.
    if lease * 2 < http_timeout * 3 {
        let least = (http_timeout * 3 / 2).as_secs_f64();
        let (lease, timeout) = (lease.as_secs_f64(), http_timeout.as_secs_f64());
        let reason = format!("is below 1.5 x HTTP_TIMEOUT={timeout}: set at least {least}");
        reader.invalid("LEASE_SECONDS", format!("LEASE_SECONDS={lease} {reason}"));
    }
    let in_flight_max = reader.count("MAX_IN_FLIGHT");
    let in_flight_per_host_max = reader.count("MAX_IN_FLIGHT_PER_HOST").min(in_flight_max);
    WorkerConfig {
        policy,
        poll_interval: reader.seconds("WORKER_POLL_INTERVAL"),
        lease,
        http_timeout,
        in_flight_max,
        in_flight_per_host_max,
        shutdown,
        presence: reader.flag("PRESENCE"),
    }
}

fn policy(reader: &mut Reader<'_>) -> Policy {
    let policy = Policy {
        base: reader.seconds("BACKOFF_BASE_SECONDS"),
        cap: reader.seconds("BACKOFF_CAP_SECONDS"),
        retry_after_cap: reader.seconds("RETRY_AFTER_CAP_SECONDS"),
        max_attempts: reader.small_count("MAX_ATTEMPTS"),
        max_abandoned: reader.small_count("MAX_ABANDONED"),
    };
    if policy.cap < policy.base {
        let (cap, base) = (policy.cap.as_secs_f64(), policy.base.as_secs_f64());
        let reason = format!("is below BACKOFF_BASE_SECONDS={base}: set at least {base}");
        reader.invalid("BACKOFF_CAP_SECONDS", format!("BACKOFF_CAP_SECONDS={cap} {reason}"));
    }
    policy
}

/// Refuses the published secret on a server that other machines can reach. Returns a warning if
/// `ALLOW_DEFAULT_SECRET` permits it, or on loopback, because a proxy may forward requests to it.
fn check_secret(reader: &mut Reader<'_>, bind: SocketAddr) -> Option<String> {
    let is_allowed = reader.flag("ALLOW_DEFAULT_SECRET");
    let default = settings::setting("WEBHOOK_SECRET").default;
    let secrets = reader.text("WEBHOOK_SECRET");
    if secrets.split(',').all(|secret| secret.trim() != default) {
        return None;
    }
    if is_allowed || bind.ip().is_loopback() {
        return Some(
            "WEBHOOK_SECRET is the published default, so everybody can forge signatures: \
             set a secret"
                .to_owned(),
        );
    }
    reader.invalid(
        "WEBHOOK_SECRET",
        format!(
            "WEBHOOK_SECRET is the published default and BIND={bind} is not loopback: \
             set a secret, or ALLOW_DEFAULT_SECRET=true for a demonstration"
        ),
    );
    None
}

/// Returns a warning if a server that other machines can reach requires no key.
fn check_keys(bind: SocketAddr, keys: &[String]) -> Option<String> {
    (keys.is_empty() && !bind.ip().is_loopback()).then(|| {
        format!(
            "API_KEYS is not set and BIND={bind} is not loopback, so every client that reaches it \
             can send signed events: set API_KEYS"
        )
    })
}
