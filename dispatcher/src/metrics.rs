//! Metrics for Prometheus: counters and histograms of this process, and gauges from SQL.
//!
//! Each dispatcher has its own registry, so that tests can run several in one process. Names and
//! labels are an interface for operators: change them only with an entry in the change log.

use std::sync::atomic::AtomicU64;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use chrono::TimeDelta;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::event::{Disposition, Outcome, Settled, Settlement};
use crate::store::{ReclaimCause, Reclaimed};

/// Log lines that were not written. The log belongs to the process, so all registries share it.
pub(crate) static LOG_LINES_DROPPED: LazyLock<Counter> = LazyLock::new(Counter::default);

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

/// All metrics of a dispatcher.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    /// The gauges from SQL, or nothing if they could not be read.
    gauges: Mutex<Option<Registry>>,
    accept_seconds: Histogram,
    accepts: Family<ByStatus, Counter>,
    attempts: Family<ByOutcome, Counter>,
    attempt_seconds: Histogram,
    claimed: Counter,
    delayed: Counter,
    exhausted: Counter,
    in_flight: Gauge,
    lost_leases: Counter,
    dead: Family<ByReason, Counter>,
    reclaims: Family<ByCause, Counter>,
    clock_offset_seconds: Gauge<f64, AtomicU64>,
    gauges_failed: Counter,
}

/// The buckets range from 1 ms to 33 s.
fn seconds_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 16))
}

/// Registers the gauges of the backlog.
fn backlog(gauges: &crate::store::Gauges) -> Registry {
    let mut registry = Registry::with_prefix("webhook");
    let seconds = |value: Duration| {
        let gauge = Gauge::<f64, AtomicU64>::default();
        gauge.set(value.as_secs_f64());
        gauge
    };
    let due = Gauge::<i64>::default();
    due.set(gauges.due);
    registry.register(
        "due_events",
        "Due events without a claim, from SQL, counted up to 100000",
        due,
    );
    registry.register_with_unit(
        "oldest_due_age",
        "Time since the oldest due event became due, from SQL",
        Unit::Seconds,
        seconds(gauges.oldest_due_age),
    );
    registry.register_with_unit(
        "oldest_transaction",
        "Age of the oldest open transaction in the database, from SQL",
        Unit::Seconds,
        seconds(gauges.oldest_transaction_age),
    );
    registry
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            registry: Mutex::new(Registry::with_prefix("webhook")),
            gauges: Mutex::default(),
            accept_seconds: seconds_histogram(),
            accepts: Family::default(),
            attempts: Family::default(),
            attempt_seconds: seconds_histogram(),
            claimed: Counter::default(),
            delayed: Counter::default(),
            exhausted: Counter::default(),
            in_flight: Gauge::default(),
            lost_leases: Counter::default(),
            dead: Family::default(),
            reclaims: Family::default(),
            clock_offset_seconds: Gauge::default(),
            gauges_failed: Counter::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&self) {
        let mut registry = self.registry.lock().expect("no code panics while it holds this lock");
        let r = &mut *registry;
        r.register("accepts", "Responses to POST /events, by status", self.accepts.clone());
        r.register_with_unit(
            "accept_duration",
            "Time from a request of POST /events to its response",
            Unit::Seconds,
            self.accept_seconds.clone(),
        );
        r.register("attempts", "Attempts, by outcome", self.attempts.clone());
        r.register_with_unit(
            "attempt_duration",
            "Duration of an attempt, until the last byte of the response",
            Unit::Seconds,
            self.attempt_seconds.clone(),
        );
        r.register("claims", "Claimed events", self.claimed.clone());
        r.register(
            "deferrals",
            "Claims released without an attempt because their host was at its limit",
            self.delayed.clone(),
        );
        r.register(
            "shortages",
            "Claims released without an attempt because of local exhaustion (sockets or ports)",
            self.exhausted.clone(),
        );
        r.register("attempts_in_flight", "Running attempts", self.in_flight.clone());
        r.register(
            "lost_leases",
            "Results discarded because their lease had ended",
            self.lost_leases.clone(),
        );
        r.register("dead_events", "Events that became dead, by reason", self.dead.clone());
        r.register("reclaims", "Leases ended by a reclaim, by cause", self.reclaims.clone());
        r.register(
            "gauges_failed",
            "Failed queries of the gauges from SQL",
            self.gauges_failed.clone(),
        );
        self.register_process(r);
    }

    fn register_process(&self, r: &mut Registry) {
        r.register_with_unit(
            "database_clock_offset",
            "Clock of the database minus clock of this process, 0 if within one round trip",
            Unit::Seconds,
            self.clock_offset_seconds.clone(),
        );
        r.register(
            "log_lines_dropped",
            "Log lines dropped because the output was full, closed or not read",
            LOG_LINES_DROPPED.clone(),
        );
    }

    /// Returns all metrics as OpenMetrics 1.0.0 text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().expect("no code panics while it holds this lock");
        let gauges = self.gauges.lock().expect("no code panics while it holds this lock");
        let mut encoded = encode_registry(&mut text, &registry);
        if let Some(gauges) = &*gauges {
            encoded = encoded.and_then(|()| encode_registry(&mut text, gauges));
        }
        let encoded = encoded.and_then(|()| encode_eof(&mut text));
        encoded.expect("writing to a String does not fail");
        text
    }

    /// Counts a response to POST /events.
    pub(crate) fn accepted(&self, status: u16, elapsed: Duration) {
        self.accepts.get_or_create(&ByStatus { status }).inc();
        self.accept_seconds.observe(elapsed.as_secs_f64());
    }

    /// Sets the gauges of the backlog. If they could not be read, removes them and counts that.
    pub(crate) fn backlog(&self, gauges: Option<&crate::store::Gauges>) {
        if gauges.is_none() {
            self.gauges_failed.inc();
        }
        let registry = gauges.map(backlog);
        *self.gauges.lock().expect("no code panics while it holds this lock") = registry;
    }

    pub(crate) fn clock_offset(&self, offset: TimeDelta) {
        self.clock_offset_seconds.set(offset.as_seconds_f64());
    }

    pub(crate) fn claimed(&self, count: usize) {
        self.claimed.inc_by(count as u64);
    }

    pub(crate) fn delayed(&self) {
        self.delayed.inc();
    }

    pub(crate) fn exhausted(&self) {
        self.exhausted.inc();
    }

    pub(crate) fn in_flight(&self, count: usize) {
        self.in_flight.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(crate) fn attempted(&self, outcome: &Outcome, elapsed: Duration) {
        self.attempts.get_or_create(&ByOutcome { outcome: outcome.as_str() }).inc();
        self.attempt_seconds.observe(elapsed.as_secs_f64());
    }

    pub(crate) fn settled(&self, settlement: &Settlement, settled: Settled) {
        match (settled, settlement.disposition) {
            (Settled::LeaseLost, _) => drop(self.lost_leases.inc()),
            (_, Disposition::Dead(reason)) => {
                self.dead.get_or_create(&ByReason { reason: reason.as_str() }).inc();
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
            self.dead.get_or_create(&ByReason { reason: "abandoned" }).inc();
        }
    }
}
