//! What an operator's Prometheus reads: counters and histograms of this process, and gauges that come from SQL.
//!
//! One registry a dispatcher, nothing global. The names and labels are those that `docs/ARCHITECTURE.md` lists.

use std::sync::Mutex;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::event::{Disposition, Outcome, Settled, Settlement};
use crate::store::{ReclaimCause, Reclaimed};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByOutcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByReason {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByCause {
    cause: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByStatus {
    status: u16,
}

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    accept_seconds: Histogram,
    accepts: Family<ByStatus, Counter>,
    attempts: Family<ByOutcome, Counter>,
    attempt_seconds: Histogram,
    claimed: Counter,
    deferred: Counter,
    not_sent: Counter,
    in_flight: Gauge,
    lost_leases: Counter,
    dead: Family<ByReason, Counter>,
    reclaims: Family<ByCause, Counter>,
    due: Gauge,
    oldest_due_seconds: Gauge<f64, std::sync::atomic::AtomicU64>,
}

/// From a millisecond to about half a minute.
fn seconds_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 16))
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            registry: Mutex::new(Registry::with_prefix("webhook")),
            accept_seconds: seconds_histogram(),
            accepts: Family::default(),
            attempts: Family::default(),
            attempt_seconds: seconds_histogram(),
            claimed: Counter::default(),
            deferred: Counter::default(),
            not_sent: Counter::default(),
            in_flight: Gauge::default(),
            lost_leases: Counter::default(),
            dead: Family::default(),
            reclaims: Family::default(),
            due: Gauge::default(),
            oldest_due_seconds: Gauge::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&self) {
        let mut registry = self
            .registry
            .lock()
            .expect("nothing panics while it holds the registry");
        let r = &mut *registry;
        r.register(
            "accepts",
            "Answers to POST /events by status",
            self.accepts.clone(),
        );
        r.register_with_unit(
            "accept_duration",
            "From the request to its answer",
            Unit::Seconds,
            self.accept_seconds.clone(),
        );
        r.register("attempts", "Attempts by outcome", self.attempts.clone());
        r.register_with_unit(
            "attempt_duration",
            "One attempt, to the last byte of the answer",
            Unit::Seconds,
            self.attempt_seconds.clone(),
        );
        r.register("claims", "Events claimed", self.claimed.clone());
        r.register(
            "deferrals",
            "Claims handed back unsent, their host at its cap",
            self.deferred.clone(),
        );
        r.register(
            "shortages",
            "Claims handed back unsent, this machine short of sockets or ports",
            self.not_sent.clone(),
        );
        r.register(
            "attempts_in_flight",
            "Attempts under way",
            self.in_flight.clone(),
        );
        r.register(
            "lost_leases",
            "Results that came after their lease had ended",
            self.lost_leases.clone(),
        );
        r.register(
            "dead_events",
            "Events that became dead, by reason",
            self.dead.clone(),
        );
        r.register(
            "reclaims",
            "Leases ended without their holder, by cause",
            self.reclaims.clone(),
        );
        r.register(
            "due_events",
            "Events due and not under way, from SQL, counted up to 100000",
            self.due.clone(),
        );
        r.register_with_unit(
            "oldest_due_age",
            "How long the oldest due event has waited, from SQL",
            Unit::Seconds,
            self.oldest_due_seconds.clone(),
        );
    }

    /// The text that Prometheus reads (OpenMetrics 1.0.0).
    pub fn text(&self) -> String {
        let mut text = String::new();
        let registry = self
            .registry
            .lock()
            .expect("nothing panics while it holds the registry");
        encode(&mut text, &registry).expect("writing to a String does not fail");
        text
    }

    /// A request to POST /events was answered.
    pub fn accepted(&self, status: u16, elapsed: Duration) {
        self.accepts.get_or_create(&ByStatus { status }).inc();
        self.accept_seconds.observe(elapsed.as_secs_f64());
    }

    /// The backlog, as SQL saw it.
    pub fn backlog(&self, gauges: &crate::store::Gauges) {
        self.due.set(gauges.due);
        self.oldest_due_seconds
            .set(gauges.oldest_due_age.as_secs_f64());
    }

    pub(crate) fn claimed(&self, count: usize) {
        self.claimed.inc_by(count as u64);
    }

    pub(crate) fn deferred(&self) {
        self.deferred.inc();
    }

    pub(crate) fn not_sent(&self) {
        self.not_sent.inc();
    }

    pub(crate) fn in_flight(&self, count: usize) {
        self.in_flight.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(crate) fn attempted(&self, outcome: &Outcome, elapsed: Duration) {
        self.attempts
            .get_or_create(&ByOutcome {
                outcome: outcome.as_str(),
            })
            .inc();
        self.attempt_seconds.observe(elapsed.as_secs_f64());
    }

    pub(crate) fn settled(&self, settlement: &Settlement, settled: Settled) {
        match (settled, settlement.disposition) {
            (Settled::LeaseLost, _) => drop(self.lost_leases.inc()),
            (_, Disposition::Dead(reason)) => {
                self.dead
                    .get_or_create(&ByReason {
                        reason: reason.as_str(),
                    })
                    .inc();
            }
            _ => {}
        }
    }

    pub(crate) fn reclaimed(&self, cause: ReclaimCause, lease: &Reclaimed) {
        let cause = match cause {
            ReclaimCause::Expired => "expired",
            ReclaimCause::Gone(_) => "gone",
        };
        self.reclaims.get_or_create(&ByCause { cause }).inc();
        if lease.is_dead {
            self.dead
                .get_or_create(&ByReason {
                    reason: "abandoned",
                })
                .inc();
        }
    }
}
