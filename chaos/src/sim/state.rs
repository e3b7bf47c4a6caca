//! The mutable state of one simulated run: model store, processes, clock, faults and history.

use std::collections::BTreeMap;
use std::time::Duration;

use dispatcher::event::{EventId, LeaseToken};
use dispatcher::store::ClaimLimit;
use rand::RngExt;
use uuid::Uuid;

use super::clock::Clock;
use super::failpoint::FailpointHit;
use super::fault::{Fault, PlannedFault};
use super::model::Model;
use super::process::SimProcess;
use super::schedule::SimSchedule;
use crate::fault::Planned as _;
use crate::history::op::{FaultSkip, Op};
use crate::seed::Stream;

/// The state that the tasks of a run change.
pub(super) struct SimState {
    pub(super) model: Model,
    pub(super) processes: Vec<SimProcess>,
    pub(super) clock: Clock,
    pub(super) faults: Vec<PendingFault>,
    /// Active outages of the database.
    pub(super) database_outages: u32,
    /// Number of crashes of the database. A reply of an earlier life is lost.
    pub(super) database_life: u64,
    /// The database refuses some inserts, and settlements with an error text.
    pub(super) refuses_data: bool,
    /// Active refusals, by receiver.
    pub(super) refusals: Vec<u32>,
    /// Number of receivers, from the first one, that hang.
    pub(super) hung_receivers: u32,
    pub(super) open_requests: Vec<OpenRequest>,
    pub(super) draws: Stream,
    /// Every failpoint hit, if the caller requested a trace.
    pub(super) trace: Option<Vec<FailpointHit>>,
    pub(super) ops: Vec<(u64, Op)>,
    acknowledged: BTreeMap<u64, String>,
    requests: u64,
    posts: u64,
    tokens: u128,
}

/// A fault of the schedule and the progress of its trigger.
pub(super) struct PendingFault {
    pub(super) planned: PlannedFault,
    pub(super) has_struck: bool,
    /// Hits of its failpoint so far.
    pub(super) hits: u32,
}

/// A request that a receiver has begun and not ended.
pub(super) struct OpenRequest {
    /// Its name in the history.
    pub(super) name: String,
    pub(super) process: usize,
    pub(super) life: u32,
}

/// An acknowledged event with the id of its first 202.
pub(super) struct AcknowledgedEvent {
    pub(super) ordinal: u64,
    pub(super) id: String,
}

impl SimState {
    /// Chooses the events of a claim: the earliest due ones. In `percent` of the claims, about half
    /// of the due events are skipped, like rows that another transaction has locked.
    pub(super) fn choose(
        &mut self,
        now_us: i64,
        limit: ClaimLimit,
        percent: u32,
    ) -> Vec<(EventId, LeaseToken)> {
        let mut due = self.model.claimable(now_us, &limit);
        if percent > 0 && self.draws.random_range(0..100) < percent {
            due.retain(|_| self.draws.random_range(0..2) == 0);
        }
        due.truncate(limit.events);
        let mut bytes = 0;
        due.retain(|id| {
            let fits = bytes < limit.bytes;
            bytes += self.model.rows[id].payload.len();
            fits
        });
        due.into_iter().map(|id| (id, self.next_token())).collect()
    }

    pub(super) fn new(schedule: &SimSchedule) -> Self {
        let processes = (0..schedule.workers).map(|number| SimProcess::new(schedule.seed, number));
        Self {
            model: Model::default(),
            processes: processes.collect(),
            clock: Clock::default(),
            faults: schedule.faults.iter().map(PendingFault::new).collect(),
            database_outages: 0,
            database_life: 0,
            refuses_data: false,
            refusals: vec![0; schedule.receivers as usize],
            hung_receivers: 0,
            open_requests: Vec::new(),
            draws: schedule.seed.stream("sim/world"),
            trace: None,
            ops: Vec::with_capacity(1_024),
            acknowledged: BTreeMap::new(),
            requests: 0,
            posts: 0,
            tokens: 0,
        }
    }

    /// Appends an observation to the history.
    pub(super) fn push(&mut self, t: u64, op: Op) {
        if let Op::IngestOk(ok) = &op {
            self.acknowledged.entry(ok.ordinal).or_insert_with(|| ok.id.clone());
        }
        self.ops.push((t, op));
    }

    /// Takes the history out of the state.
    pub(super) fn take_ops(&mut self) -> Vec<(u64, Op)> {
        std::mem::take(&mut self.ops)
    }

    /// Records which faults of the schedule never struck.
    pub(super) fn push_skipped_faults(&mut self, t: u64) {
        let pending = self.faults.iter().filter(|fault| !fault.has_struck);
        let skipped: Vec<Op> =
            pending.map(|pending| skip(&pending.planned.fault, "its moment never came")).collect();
        for op in skipped {
            self.push(t, op);
        }
    }

    /// Returns the acknowledged events in the order of their ordinals.
    pub(super) fn acknowledged(&self) -> Vec<AcknowledgedEvent> {
        let acknowledged = self.acknowledged.iter();
        acknowledged
            .map(|(ordinal, id)| AcknowledgedEvent { ordinal: *ordinal, id: id.clone() })
            .collect()
    }

    /// Returns a new number for a request to a receiver.
    pub(super) fn next_request(&mut self) -> u64 {
        self.requests += 1;
        self.requests
    }

    /// Returns a new number for a client op.
    pub(super) fn next_post(&mut self) -> u64 {
        self.posts += 1;
        self.posts
    }

    /// Returns a new lease token.
    pub(super) fn next_token(&mut self) -> LeaseToken {
        self.tokens += 1;
        LeaseToken(Uuid::from_u128(self.tokens))
    }

    /// Draws a delay of at most `most_ms` milliseconds.
    pub(super) fn draw_delay(&mut self, most_ms: u64) -> Duration {
        Duration::from_millis(if most_ms == 0 { 0 } else { self.draws.random_range(0..=most_ms) })
    }

    /// Takes the presence lock of a process, unless the process holds it or a fault prevents it.
    pub(super) fn take_presence(&mut self, process: usize) {
        let process = &mut self.processes[process];
        if self.database_outages > 0 || process.is_present || !process.may_be_present() {
            return;
        }
        self.model.register(process.worker_id);
        process.is_present = true;
        process.presence_held.notify_waiters();
    }

    /// Ends the session of the presence lock of a process.
    pub(super) fn lose_presence(&mut self, process: usize) {
        let process = &mut self.processes[process];
        process.is_present = false;
        self.model.unlock(process.worker_id);
    }
}

impl PendingFault {
    fn new(planned: &PlannedFault) -> Self {
        Self { planned: planned.clone(), has_struck: false, hits: 0 }
    }
}

/// The op of a fault that is not injected.
pub(super) fn skip(fault: &Fault, reason: &str) -> Op {
    Op::FaultSkip(FaultSkip { f: fault.kind().name.into(), why: reason.into() })
}
