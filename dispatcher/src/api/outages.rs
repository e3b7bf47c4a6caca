//! Log of failed database calls. Under load, one line per request would flood the log, so this
//! writes one line at the start of an outage and one per [`REPEAT_INTERVAL`].

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::store::StoreError;

const REPEAT_INTERVAL: Duration = Duration::from_secs(30);

/// Time of the last line.
#[derive(Debug, Default)]
pub(super) struct Outages(Mutex<Option<Instant>>);

impl Outages {
    pub(super) fn log(&self, error: &StoreError) {
        let now = Instant::now();
        let mut logged_at = self.0.lock().expect("no code panics while it holds this lock");
        if logged_at.is_none_or(|at| now - at >= REPEAT_INTERVAL) {
            *logged_at = Some(now);
            tracing::warn!(%error, "database call of a request failed, request gets 503");
        }
    }
}
