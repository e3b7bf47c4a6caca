//! Whether the database answers, as the worker sees it: when to try again, when to trust it, and what to log.
//!
//! Pure but for its log lines, of which an outage gets few. A database that answers one thing and refuses the next, as with a
//! full disk, is away: outages that follow each other closely are one.

use std::time::Duration;

use tokio::time::Instant;

use crate::store::StoreError;

/// The pause after the first failure; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// No pause is longer, so that an outage is over for us within this time of its end.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Leases are ended by expiry only once the database has answered for so long without a break, since the start or since an
/// outage: others that were cut off settle what they hold first. A worker that comes new cannot know whether they were.
const STEADY: Duration = Duration::from_secs(5);

/// An outage is logged again after so long.
const REMIND: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Database {
    outage: Option<Outage>,
    /// The last outage, until the database has answered for long enough.
    ended: Option<Outage>,
    /// Since when it answers without a break.
    steady_since: Instant,
}

#[derive(Debug)]
struct Outage {
    since: Instant,
    closed_until: Instant,
    pause: Duration,
    told_at: Instant,
    /// It has come back since it was told to be over.
    came_back: bool,
}

impl Database {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            outage: None,
            ended: None,
            steady_since: now,
        }
    }

    /// Whether to ask it anything now.
    pub(super) fn is_open(&self, now: Instant) -> bool {
        self.closed_until(now).is_none()
    }

    /// Until when not to ask it anything.
    pub(super) fn closed_until(&self, now: Instant) -> Option<Instant> {
        self.outage
            .as_ref()
            .map(|outage| outage.closed_until)
            .filter(|until| *until > now)
    }

    /// Whether it has answered for long enough to end the leases of others by expiry.
    pub(super) fn is_steady(&self, now: Instant) -> bool {
        self.outage.is_none() && now - self.steady_since >= STEADY
    }

    pub(super) fn answered(&mut self, now: Instant) {
        if let Some(outage) = self.outage.take() {
            self.steady_since = now;
            if !outage.came_back {
                let away_ms = (now - outage.since).as_millis();
                tracing::info!(away_ms, "the database answers again");
            }
            self.ended = Some(outage);
        } else if self.ended.is_some() && self.is_steady(now) {
            let ended = self.ended.take().filter(|ended| ended.came_back);
            if let Some(ended) = ended {
                let unsteady_ms = (self.steady_since - ended.since).as_millis();
                tracing::info!(unsteady_ms, "the database answers steadily again");
            }
        }
    }

    pub(super) fn failed(&mut self, error: &StoreError, now: Instant) {
        let is_steady = self.is_steady(now);
        if let Some(outage) = &mut self.outage {
            // Calls that were under way together fail together: one pause for all of them.
            if outage.closed_until <= now {
                outage.goes_on(error, now);
            }
        } else if let Some(mut outage) = self.ended.take().filter(|_| !is_steady) {
            outage.came_back = true;
            outage.goes_on(error, now);
            self.outage = Some(outage);
        } else {
            tracing::warn!(%error, "the database does not answer: results are kept, nothing is claimed");
            self.outage = Some(Outage {
                since: now,
                closed_until: now + PAUSE_MIN,
                pause: PAUSE_MIN,
                told_at: now,
                came_back: false,
            });
        }
    }
}

impl Outage {
    fn goes_on(&mut self, error: &StoreError, now: Instant) {
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        self.closed_until = now + self.pause;
        if now - self.told_at >= REMIND {
            self.told_at = now;
            let away_s = (now - self.since).as_secs();
            tracing::warn!(%error, away_s, "the database still does not answer");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    fn lost() -> StoreError {
        StoreError::Unknown {
            operation: "testing",
            reason: "cut".into(),
        }
    }

    #[test]
    fn pauses_double_to_their_bound_and_end_with_the_first_answer() {
        let mut now = Instant::now();
        let mut database = Database::new(now);
        let mut pauses = Vec::new();
        for _ in 0..7 {
            database.failed(&lost(), now);
            database.failed(&lost(), now);
            let until = database.closed_until(now).expect("closed after a failure");
            pauses.push((until - now).as_millis());
            now = until;
        }
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1000, 1000]);
        database.answered(now);
        assert!(database.is_open(now));
    }

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("nobody panics").write(text)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines that are logged meanwhile.
    fn logged(work: impl FnOnce()) -> Vec<String> {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, work);
        let text = String::from_utf8(log.0.lock().expect("nobody panics").clone());
        let text = text.expect("a log is text");
        text.lines().map(str::to_owned).collect()
    }

    // A full disk: what reads is answered, what writes is refused, ten times a second for a minute.
    #[test]
    fn a_database_that_answers_one_thing_and_refuses_the_next_is_asked_and_told_of_rarely() {
        let start = Instant::now();
        let (mut now, mut refused) = (start, 0);
        let lines = logged(|| {
            let mut database = Database::new(start);
            while now < start + Duration::from_secs(60) {
                if database.is_open(now) {
                    database.answered(now);
                    database.failed(&lost(), now);
                    refused += 1;
                }
                now += Duration::from_millis(100);
            }
            database.answered(now);
            database.answered(now + STEADY);
            assert!(database.is_steady(now + STEADY));
        });
        assert!(refused < 70, "it was asked {refused} times");
        // That it is away, that it is back, a reminder every 30 s, and that it is back for good.
        assert!((3..=5).contains(&lines.len()), "{lines:#?}");
    }

    #[test]
    fn leases_of_others_are_safe_for_five_seconds_after_the_start_and_after_an_outage() {
        let start = Instant::now();
        let mut database = Database::new(start);
        assert!(!database.is_steady(start + Duration::from_millis(4_999)));
        assert!(database.is_steady(start + STEADY));
        database.failed(&lost(), start + STEADY);
        assert!(
            !database.is_steady(start + Duration::from_secs(60)),
            "it is still away"
        );
        let back = start + Duration::from_secs(60);
        database.answered(back);
        assert!(!database.is_steady(back + Duration::from_millis(4_999)));
        assert!(database.is_steady(back + STEADY));
    }
}
