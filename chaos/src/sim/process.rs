//! State of one simulated worker process, over all its starts.

use std::sync::Arc;
use std::task::Waker;

use dispatcher::accept::Acceptor;
use dispatcher::event::WorkerId;
use dispatcher::hand_off::HandOff;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::fault::Target;
use crate::seed::{Seed, Stream};

/// One process. Each start begins a new life with a new worker id.
pub(super) struct SimProcess {
    pub(super) number: u32,
    pub(super) name: String,
    /// Number of starts. Calls of an earlier life have no effect.
    pub(super) life: u32,
    pub(super) worker_id: WorkerId,
    pub(super) is_up: bool,
    /// The process holds its presence lock.
    pub(super) is_present: bool,
    pub(super) is_killed: bool,
    /// Faults that end this life, with the time until the next start.
    pub(super) requested_ends: Vec<RequestedEnd>,
    pub(super) stop: CancellationToken,
    /// Active pauses.
    pub(super) pauses: u32,
    /// Active cuts of the presence connection.
    pub(super) presence_cuts: u32,
    /// Active cuts of all connections to the database.
    pub(super) store_cuts: u32,
    /// Active faults in which the machine has no free socket.
    pub(super) socket_exhaustions: u32,
    /// Receivers for which the machine has no free port: one entry per active fault.
    pub(super) exhausted_receivers: Vec<u32>,
    /// Claims that the server has received and not yet committed. Their clients may have given up.
    pub(super) running_claims: u32,
    /// Notified when the presence lock is held again.
    pub(super) presence_held: Arc<Notify>,
    /// Notified when the connections to the database are cut.
    pub(super) connections_cut: Arc<Notify>,
    /// Takes the posts of this life.
    pub(super) acceptor: Option<Acceptor>,
    /// Takes the events of those posts to the worker.
    pub(super) hand_off: Option<Arc<HandOff>>,
    /// Notified when a pause ends.
    pub(super) resumed: Arc<Notify>,
    pub(super) latencies: Stream,
    pub(super) waker: Option<Waker>,
}

/// A kill or a stop of a process.
pub(super) struct RequestedEnd {
    /// Number of the fault. It ends with the next start.
    pub(super) fault: u64,
    /// Time until the next start, in milliseconds.
    pub(super) down_ms: u64,
}

impl SimProcess {
    pub(super) fn new(seed: Seed, number: u32) -> Self {
        Self {
            number,
            name: format!("w{number}"),
            life: 0,
            worker_id: WorkerId(0),
            is_up: false,
            is_present: false,
            is_killed: false,
            requested_ends: Vec::new(),
            stop: CancellationToken::new(),
            pauses: 0,
            presence_cuts: 0,
            store_cuts: 0,
            socket_exhaustions: 0,
            exhausted_receivers: Vec::new(),
            running_claims: 0,
            presence_held: Arc::default(),
            connections_cut: Arc::default(),
            acceptor: None,
            hand_off: None,
            resumed: Arc::default(),
            latencies: seed.stream(&format!("sim/latencies/{number}")),
            waker: None,
        }
    }

    /// Returns the target of faults: the process and the worker id of this life.
    pub(super) fn target(&self) -> Target {
        Target::Process { worker: self.number, id: self.worker_id.to_string() }
    }

    /// Polls the worker again after a fault has changed the state of the process.
    pub(super) fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    /// Returns true if the process runs and no fault prevents its presence session.
    pub(super) fn may_be_present(&self) -> bool {
        self.is_up
            && !self.is_killed
            && self.pauses == 0
            && self.presence_cuts == 0
            && self.store_cuts == 0
    }
}
