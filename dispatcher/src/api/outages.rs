//! Logs that requests meet no database: once when it begins, then rarely, whatever the number of requests.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::store::StoreError;

/// The same trouble is logged again after so long.
const REMIND: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Outages(Mutex<Option<Instant>>);

impl Outages {
    pub(super) fn log(&self, error: &StoreError) {
        let now = Instant::now();
        let mut told_at = self.0.lock().expect("nothing panics while it holds this");
        if told_at.is_none_or(|at| now - at >= REMIND) {
            *told_at = Some(now);
            tracing::warn!(%error, "a request was answered 503");
        }
    }
}
