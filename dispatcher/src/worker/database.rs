//! Outage detection: whether the database is available, when to try again, and when it counts as
//! steady.
//!
//! Outages that follow each other closely count as one. A full disk is such a case: reads succeed
//! and writes are refused. Pure except for log lines, of which an outage writes few.

use std::time::Duration;

use tokio::time::Instant;

use crate::store::StoreError;

/// Pause after the first failure. It doubles with each further failure.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// Maximum pause, so that the worker notices the end of an outage within this time.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Expired leases are reclaimed only after the database was available for this time without a
/// break. Workers that were cut off settle their results first. A worker that has just started
/// cannot know of an outage, so it waits as well.
const STEADY: Duration = Duration::from_secs(5);

/// Interval of the log lines during an outage.
const LOG_EVERY: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Database {
    outage: Option<Outage>,
    /// The last outage, until the database is steady again.
    ended: Option<Outage>,
    /// Start of the time without a break.
    steady_since: Instant,
}

#[derive(Debug)]
struct Outage {
    since: Instant,
    closed_until: Instant,
    pause: Duration,
    logged_at: Instant,
    /// The outage continued after its end was logged.
    is_repeated: bool,
}

impl Database {
    pub(super) fn new(now: Instant) -> Self {
        Self { outage: None, ended: None, steady_since: now }
    }

    /// Returns true if calls may start now.
    pub(super) fn is_open(&self, now: Instant) -> bool {
        self.closed_until(now).is_none()
    }

    /// Returns the time before which no call may start.
    pub(super) fn closed_until(&self, now: Instant) -> Option<Instant> {
        self.outage.as_ref().map(|outage| outage.closed_until).filter(|until| *until > now)
    }

    /// Returns true if expired leases may be reclaimed.
    pub(super) fn is_steady(&self, now: Instant) -> bool {
        self.outage.is_none() && now - self.steady_since >= STEADY
    }

    pub(super) fn answered(&mut self, now: Instant) {
        if let Some(outage) = self.outage.take() {
            self.steady_since = now;
            if !outage.is_repeated {
                let outage_ms = (now - outage.since).as_millis();
                tracing::info!(outage_ms, "database available again");
            }
            self.ended = Some(outage);
        } else if self.is_steady(now)
            && let Some(ended) = self.ended.take()
            && ended.is_repeated
        {
            let unsteady_ms = (self.steady_since - ended.since).as_millis();
            tracing::info!(unsteady_ms, "database steady again");
        }
    }

    pub(super) fn failed(&mut self, error: &StoreError, now: Instant) {
        if error.is_of_one_statement() {
            tracing::warn!(%error, "statement failed, the database is available");
            return self.answered(now);
        }
        let is_steady = self.is_steady(now);
        if let Some(outage) = &mut self.outage {
            // Concurrent calls fail together, and only the first failure extends the pause.
            if outage.closed_until <= now {
                outage.continues(error, now);
            }
        } else if let Some(mut outage) = self.ended.take().filter(|_| !is_steady) {
            outage.is_repeated = true;
            self.outage.insert(outage).continues(error, now);
        } else {
            tracing::warn!(%error, "database unavailable, results are kept and no event is claimed");
            self.outage = Some(Outage {
                since: now,
                closed_until: now + PAUSE_MIN,
                pause: PAUSE_MIN,
                logged_at: now,
                is_repeated: false,
            });
        }
    }
}

impl Outage {
    fn continues(&mut self, error: &StoreError, now: Instant) {
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        self.closed_until = now + self.pause;
        if now - self.logged_at >= LOG_EVERY {
            self.logged_at = now;
            let outage_s = (now - self.since).as_secs();
            tracing::warn!(%error, outage_s, "database still unavailable");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    fn connection_lost() -> StoreError {
        StoreError::Unknown { operation: "testing", reason: "connection lost".into() }
    }

    #[test]
    fn pauses_double_to_1_s_and_end_with_the_first_success() {
        let mut now = Instant::now();
        let mut database = Database::new(now);
        let mut pauses = Vec::new();
        for _ in 0..7 {
            database.failed(&connection_lost(), now);
            database.failed(&connection_lost(), now);
            let until = database.closed_until(now).expect("closed after a failure");
            pauses.push((until - now).as_millis());
            now = until;
        }
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1000, 1000]);
        database.answered(now);
        assert!(database.is_open(now));
    }

    #[test]
    fn timeout_or_deadlock_of_a_statement_is_no_outage() {
        let now = Instant::now();
        let mut database = Database::new(now);
        for sqlstate in ["40001", "40P01", "57014"] {
            let error = StoreError::Refused {
                operation: "testing",
                sqlstate: sqlstate.into(),
                reason: "refused".into(),
            };
            database.failed(&error, now);
            assert!(database.is_open(now), "{sqlstate}");
        }
        assert!(database.is_steady(now + STEADY));
        database.failed(&connection_lost(), now);
        assert!(!database.is_open(now));
    }

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no test panics while it holds this lock").write(text)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Returns the lines that `work` logs.
    fn logged(work: impl FnOnce()) -> Vec<String> {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, work);
        let text = String::from_utf8(
            log.0.lock().expect("no test panics while it holds this lock").clone(),
        );
        let text = text.expect("a log is text");
        text.lines().map(str::to_owned).collect()
    }

    // A full disk: reads succeed and writes are refused, ten times per second for one minute.
    #[test]
    fn database_that_refuses_writes_is_called_and_logged_rarely() {
        let start = Instant::now();
        let (mut now, mut refused) = (start, 0);
        let lines = logged(|| {
            let mut database = Database::new(start);
            while now < start + Duration::from_secs(60) {
                if database.is_open(now) {
                    database.answered(now);
                    database.failed(&connection_lost(), now);
                    refused += 1;
                }
                now += Duration::from_millis(100);
            }
            database.answered(now);
            database.answered(now + STEADY);
            assert!(database.is_steady(now + STEADY));
        });
        assert!(refused < 70, "{refused} calls");
        // Unavailable, available again, one line every 30 s, and steady.
        assert!((3..=5).contains(&lines.len()), "{lines:#?}");
    }

    #[test]
    fn database_is_steady_5_s_after_the_start_or_an_outage() {
        let start = Instant::now();
        let mut database = Database::new(start);
        assert!(!database.is_steady(start + Duration::from_millis(4_999)));
        assert!(database.is_steady(start + STEADY));
        database.failed(&connection_lost(), start + STEADY);
        assert!(!database.is_steady(start + Duration::from_secs(60)), "still unavailable");
        let back = start + Duration::from_secs(60);
        database.answered(back);
        assert!(!database.is_steady(back + Duration::from_millis(4_999)));
        assert!(database.is_steady(back + STEADY));
    }
}
