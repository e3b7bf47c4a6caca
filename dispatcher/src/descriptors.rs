//! File descriptors: raises the limit of the process, and reserves descriptors for attempts and the
//! database, so that clients cannot use them.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::config::Config;

/// Descriptors for everything except clients, attempts and pooled database connections.
const OTHERS: u64 = 64;

/// The socket of an attempt, and an idle connection or a name resolution.
const PER_ATTEMPT: u64 = 2;

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

/// Lowers `MAX_API_CONNECTIONS` to the number of descriptors that remain for clients, and adds a
/// warning.
pub fn reserve(config: &mut Config, limit: u64) {
    let attempts = PER_ATTEMPT * config.worker.in_flight_max as u64;
    let database = u64::from(config.accept_connections) + u64::from(config.work_connections);
    let left = limit.saturating_sub(attempts + database + OTHERS).max(1);
    let left = u32::try_from(left).unwrap_or(u32::MAX);
    let wanted = config.api.connections_max;
    if left < wanted {
        config.api.connections_max = left;
        config.warnings.push(format!(
            "the limit of {limit} file descriptors is too low for MAX_API_CONNECTIONS={wanted}, \
             lowered to {left}: raise `ulimit -n`, or lower MAX_API_CONNECTIONS or MAX_IN_FLIGHT"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_and_database_have_priority_over_clients() {
        let mut config = Config::from_lookup(|_| None).expect("the defaults are valid");
        reserve(&mut config, 1 << 20);
        assert_eq!(
            (config.api.connections_max, config.warnings.len()),
            (10_000, 0)
        );
        // 2 for each of 512 attempts, 8 + 4 for the database, 64 for the rest.
        reserve(&mut config, 4_096);
        assert_eq!(config.api.connections_max, 4_096 - 1_024 - 12 - 64);
        assert!(config.warnings[0].contains("MAX_API_CONNECTIONS"));
        reserve(&mut config, 100);
        assert_eq!(config.api.connections_max, 1);
    }
}
