//! File descriptors: raises the limit of the process and shares it between the database, attempts,
//! idle connections to receivers, and clients, so that none of them can use those of the others.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::Role;
use crate::api::OPERATIONS_CONNECTIONS;
use crate::config::Config;

/// Descriptors for everything that has no limit of its own: the runtime, the log, the listener, and
/// further addresses of a name that an attempt dials at the same time.
const OTHERS: u64 = 64;

/// Connections for presence and for health, beyond those of the pools.
const SINGLE_CONNECTIONS: u64 = 2;

/// Minimum number of clients, unless `MAX_API_CONNECTIONS` is lower.
const CLIENTS_MIN: u64 = 64;

/// The limit leaves too few descriptors for clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the limit of {limit} file descriptors leaves {left} for clients, and at least {min} are \
     needed: raise `ulimit -n` to {needed}, or lower MAX_IN_FLIGHT"
)]
pub struct TooFew {
    limit: u64,
    left: u64,
    min: u64,
    needed: u64,
}

/// Raises the soft limit of this process to its hard limit and returns it.
///
/// # Errors
/// The system call failed.
pub fn raise_limit() -> std::io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

/// Shares `limit` descriptors. The database and each attempt come first. Idle connections to
/// receivers get at most half of the rest, and clients the other part. This may lower
/// `MAX_API_CONNECTIONS` with a warning, and the number of idle connections.
///
/// # Errors
/// Fewer than 64 descriptors are left for clients.
pub fn share(config: &mut Config, role: Role, limit: u64) -> Result<(), TooFew> {
    let attempts = match role {
        Role::Api => 0,
        Role::Serve | Role::Worker => config.worker.in_flight_max as u64,
    };
    let store = &config.store;
    let pools = u64::from(store.accept_connections) + u64::from(store.work_connections);
    let fixed = OTHERS + SINGLE_CONNECTIONS + pools + attempts;
    let operations = u64::from(OPERATIONS_CONNECTIONS);
    let rest = limit.saturating_sub(fixed);
    let idle = attempts.min(rest / 2);
    let left = (rest - idle).saturating_sub(operations);
    let wanted = config.api.connections_max;
    let min = CLIENTS_MIN.min(u64::from(wanted));
    if left < min {
        let needed = fixed + operations + min + attempts.min(operations + min);
        return Err(TooFew { limit, left, min, needed });
    }
    config.transport.idle_max = usize::try_from(idle).unwrap_or(usize::MAX);
    let left = u32::try_from(left).unwrap_or(u32::MAX);
    if left < wanted {
        config.api.connections_max = left;
        config.warnings.push(format!(
            "the limit of {limit} file descriptors is too low for MAX_API_CONNECTIONS={wanted}, \
             lowered to {left}: raise `ulimit -n`, or lower MAX_API_CONNECTIONS or MAX_IN_FLIGHT"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the idle connections, the clients and the number of warnings at the defaults.
    fn shared(role: Role, limit: u64) -> Result<(usize, u32, usize), TooFew> {
        // Without a secret, there is a warning about the published default.
        let secret = |name: &str| (name == "WEBHOOK_SECRET").then(|| "secret".to_owned());
        let mut config = Config::from_lookup(secret).expect("the defaults are valid");
        share(&mut config, role, limit)?;
        let clients = config.api.connections_max;
        Ok((config.transport.idle_max, clients, config.warnings.len()))
    }

    // Fixed are 64 + 2, the pools with 4 + 4, and one for each of 512 attempts.
    #[test]
    fn attempts_and_database_have_priority_over_clients() {
        assert_eq!(shared(Role::Serve, 1 << 20), Ok((512, 10_000, 0)));
        let clients = 4_096 - 74 - 512 - 512 - 16;
        assert_eq!(shared(Role::Serve, 4_096), Ok((512, clients, 1)));
        assert_eq!(shared(Role::Worker, 1_024), Ok((219, 438 - 219 - 16, 1)));
        assert_eq!(shared(Role::Api, 1_024), Ok((0, 1_024 - 74 - 16, 1)));
    }

    #[test]
    fn start_is_refused_below_64_clients() {
        let few = shared(Role::Serve, 586 + 158).expect_err("63 are left");
        assert_eq!((few.left, few.needed), (63, 586 + 160));
        assert!(shared(Role::Serve, few.needed).is_ok());
        let few = shared(Role::Api, 96).expect_err("6 are left");
        assert_eq!((few.left, few.needed), (6, 74 + 16 + 64));
        assert!(shared(Role::Api, few.needed).is_ok());
    }
}
