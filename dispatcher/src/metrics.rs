//! Metrics for Prometheus: counters and histograms of this process, and gauges from SQL.
//!
//! Each dispatcher has its own registry, so that tests can run several in one process. Names and
//! labels are an interface for operators: change them only with an entry in the change log.

use std::sync::LazyLock;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry, Unit};

use crate::event::{Disposition, Outcome, Settled, Settlement};
use crate::store::{Gauges, ReclaimCause, Reclaimed};

/// Log lines that were not written. The log belongs to the process, so all registries share it.
pub(crate) static LOG_LINES_DROPPED: LazyLock<Counter> = LazyLock::new(Counter::default);

/// A counter for each word that a label takes.
type ByWord = Family<[(&'static str, &'static str); 1], Counter>;

/// All metrics of a dispatcher.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    /// The gauges from SQL, or nothing if they could not be read.
    gauges: Mutex<Option<Registry>>,
    accepts: Family<[(&'static str, u16); 1], Counter>,
    accept_seconds: Histogram,
    pub(crate) posts_waiting: Gauge,
    attempts: ByWord,
    attempt_seconds: Histogram,
    pub(crate) claimed: Counter,
    pub(crate) handed_over: Counter,
    pub(crate) delayed: Counter,
    pub(crate) exhausted: Counter,
    in_flight: Gauge,
    lost_leases: Counter,
    dead: ByWord,
    reclaims: ByWord,
    gauges_failed: Counter,
    pub(crate) clock_offset_seconds: Gauge<f64, AtomicU64>,
}

/// Registers a metric and returns it.
fn registered<M: Metric + Clone + Default>(to: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    to.register(name, help, metric.clone());
    metric
}

/// Registers a metric in seconds and returns it.
fn seconds<M: Metric + Clone>(to: &mut Registry, name: &str, help: &str, metric: M) -> M {
    to.register_with_unit(name, help, Unit::Seconds, metric.clone());
    metric
}

/// Registers a histogram of seconds and returns it. The buckets range from 1 ms to 33 s.
fn histogram(to: &mut Registry, name: &str, help: &str) -> Histogram {
    seconds(to, name, help, Histogram::new(exponential_buckets(0.001, 2.0, 16)))
}

impl Default for Metrics {
    /// The text lists the metrics in the order in which they are registered.
    fn default() -> Self {
        let mut registry = Registry::with_prefix("webhook");
        let r = &mut registry;
        let offset = "Clock of the database minus that of this process, 0 if within one round trip";
        let metrics = Self {
            registry: Mutex::default(),
            gauges: Mutex::default(),
            accepts: registered(r, "accepts", "Posted events, by status of their response"),
            accept_seconds: histogram(r, "accept_duration", "Duration of a request POST /events"),
            posts_waiting: registered(r, "posts_waiting", "Posts whose event waits for its commit"),
            attempts: registered(r, "attempts", "Attempts, by outcome"),
            attempt_seconds: histogram(r, "attempt_duration", "Duration of an attempt"),
            claimed: registered(r, "claims", "Claimed events"),
            handed_over: registered(r, "hand_offs", "Claims made by the insert of the event"),
            delayed: registered(r, "deferrals", "Claims released because of a host at its limit"),
            exhausted: registered(r, "shortages", "Claims released for lack of sockets or ports"),
            in_flight: registered(r, "attempts_in_flight", "Running attempts"),
            lost_leases: registered(r, "lost_leases", "Results discarded after their lease ended"),
            dead: registered(r, "dead_events", "Events that became dead, by reason"),
            reclaims: registered(r, "reclaims", "Leases ended by a reclaim, by cause"),
            gauges_failed: registered(r, "gauges_failed", "Failed queries of the gauges from SQL"),
            clock_offset_seconds: seconds(r, "database_clock_offset", offset, Gauge::default()),
        };
        let dropped = "Log lines dropped because the output was full, closed or not read";
        r.register("log_lines_dropped", dropped, LOG_LINES_DROPPED.clone());
        Self { registry: Mutex::new(registry), ..metrics }
    }
}

impl Metrics {
    /// Returns all metrics as OpenMetrics 1.0.0 text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut encoded = encode_registry(&mut text, &self.registry.lock());
        if let Some(gauges) = &*self.gauges.lock() {
            encoded = encoded.and_then(|()| encode_registry(&mut text, gauges));
        }
        let encoded = encoded.and_then(|()| encode_eof(&mut text));
        encoded.expect("writing to a String does not fail");
        text
    }

    /// Counts a response to POST /events.
    pub(crate) fn accepted(&self, status: u16, elapsed: Duration) {
        self.accepts.get_or_create(&[("status", status)]).inc();
        self.accept_seconds.observe(elapsed.as_secs_f64());
    }

    /// Sets the gauges of the backlog. If they could not be read, removes them and counts that.
    pub(crate) fn backlog(&self, gauges: Option<&Gauges>) {
        if gauges.is_none() {
            self.gauges_failed.inc();
        }
        *self.gauges.lock() = gauges.map(backlog);
    }

    pub(crate) fn in_flight(&self, count: usize) {
        self.in_flight.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(crate) fn attempted(&self, outcome: &Outcome, elapsed: Duration) {
        self.attempts.get_or_create(&[("outcome", outcome.as_str())]).inc();
        self.attempt_seconds.observe(elapsed.as_secs_f64());
    }

    pub(crate) fn settled(&self, settlement: &Settlement, settled: Settled) {
        if settled == Settled::LeaseLost {
            self.lost_leases.inc();
        } else if let Disposition::Dead(reason) = settlement.disposition {
            self.dead.get_or_create(&[("reason", reason.as_str())]).inc();
        }
    }

    pub(crate) fn reclaimed(&self, cause: ReclaimCause, lease: &Reclaimed) {
        let cause = match cause {
            ReclaimCause::Expired => "expired",
            ReclaimCause::Gone(_) => "gone",
        };
        self.reclaims.get_or_create(&[("cause", cause)]).inc();
        if lease.is_dead {
            self.dead.get_or_create(&[("reason", "abandoned")]).inc();
        }
    }
}

/// Registers the gauges of the backlog.
fn backlog(gauges: &Gauges) -> Registry {
    let mut registry = Registry::with_prefix("webhook");
    let r = &mut registry;
    let due = "Due events without a claim, from SQL, counted up to 100000";
    registered::<Gauge>(r, "due_events", due).set(gauges.due);
    let age = "Time since the oldest due event became due, from SQL";
    seconds::<Gauge<f64, AtomicU64>>(r, "oldest_due_age", age, Gauge::default())
        .set(gauges.oldest_due_age.as_secs_f64());
    let age = "Age of the oldest open transaction in the database, from SQL";
    seconds::<Gauge<f64, AtomicU64>>(r, "oldest_transaction", age, Gauge::default())
        .set(gauges.oldest_transaction_age.as_secs_f64());
    registry
}
