//! File descriptors: as many as the system allows, shared out so that clients cannot take those that attempts need.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::config::Config;

/// Descriptors for all that is neither a client, an attempt nor a pooled database connection.
const OTHERS: u64 = 64;

/// An attempt's own socket, and a kept connection or a name resolution beside it.
const PER_ATTEMPT: u64 = 2;

/// Raises this process's limit to as many as it may have; the limit that holds then.
///
/// # Errors
/// The system tells or sets no limit.
pub fn raise_limit() -> std::io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

/// Lowers `MAX_API_CONNECTIONS` to what `limit` descriptors leave for clients, and has the start warn of it.
pub fn share_out(config: &mut Config, limit: u64) {
    let attempts = PER_ATTEMPT * config.worker.in_flight_max as u64;
    let database = u64::from(config.accept_connections) + u64::from(config.work_connections);
    let left = limit.saturating_sub(attempts + database + OTHERS).max(1);
    let left = u32::try_from(left).unwrap_or(u32::MAX);
    let wanted = config.api.connections_max;
    if left < wanted {
        config.api.connections_max = left;
        config.warnings.push(format!(
            "{limit} file descriptors are too few for MAX_IN_FLIGHT and MAX_API_CONNECTIONS ({wanted}): \
             {left} clients are served at once; raise `ulimit -n` or lower the settings"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_what_attempts_and_the_database_leave() {
        let mut config = Config::from_lookup(|_| None).expect("the defaults hold");
        share_out(&mut config, 1 << 20);
        assert_eq!(
            (config.api.connections_max, config.warnings.len()),
            (10_000, 0)
        );
        // 2 for each of 512 attempts, 8 + 4 for the database, 64 for the rest.
        share_out(&mut config, 4_096);
        assert_eq!(config.api.connections_max, 4_096 - 1_024 - 12 - 64);
        assert!(config.warnings[0].contains("MAX_API_CONNECTIONS"));
        share_out(&mut config, 100);
        assert_eq!(config.api.connections_max, 1);
    }
}
