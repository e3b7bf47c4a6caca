//! Clocks: compares the clock of the database with that of this process.
//!
//! Leases and due times are the database's time, and signed timestamps are the process's. Both work
//! with a wrong clock, but receivers refuse timestamps that are minutes off. So a difference is a
//! gauge and a warning.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use tokio::time::sleep;

use crate::metrics::Metrics;
use crate::store::PgStore;

/// Time between two comparisons.
const COMPARE_INTERVAL: Duration = Duration::from_secs(10);

/// A larger difference is logged.
const OFFSET_MAX: TimeDelta = TimeDelta::seconds(5);

/// Compares the clocks until it is dropped. Logs when they begin to differ, and when they agree
/// again.
pub(crate) async fn watch(store: PgStore, metrics: Arc<Metrics>) {
    let mut differ = false;
    loop {
        // Other parts report an unreachable database.
        if let Ok(offset) = store.clock_offset().await {
            let offset_s = offset.as_seconds_f64();
            metrics.clock_offset_seconds.set(offset_s);
            match (differ, offset.abs() > OFFSET_MAX) {
                (false, true) => tracing::warn!(
                    offset_s,
                    "the clock of the database differs from the clock of this process: check NTP \
                     on both hosts, receivers refuse signatures if this process is wrong"
                ),
                (true, false) => tracing::info!(offset_s, "the clocks agree again"),
                _ => {}
            }
            differ = offset.abs() > OFFSET_MAX;
        }
        sleep(COMPARE_INTERVAL).await;
    }
}
