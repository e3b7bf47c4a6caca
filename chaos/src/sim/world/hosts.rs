//! The processes in which workers run: alive, standing still, dying, and whether they are present.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use dispatcher::event::WorkerId;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Core, World};
use crate::fault::Target;
use crate::seed::{Seed, Stream};

/// One process, over all its lives.
pub(in crate::sim) struct Host {
    pub(in crate::sim) number: u32,
    pub(in crate::sim) name: String,
    /// Grows with each start; calls of an earlier life are nobody's.
    pub(in crate::sim) life: u32,
    pub(in crate::sim) holder: WorkerId,
    pub(in crate::sim) up: bool,
    /// Its presence lock is held, as it knows itself.
    pub(in crate::sim) present: bool,
    /// Ends of it that were asked for: by fault number, with the time until the restart.
    pub(in crate::sim) ends: Vec<(u64, u64)>,
    pub(in crate::sim) killed: bool,
    pub(in crate::sim) stop: CancellationToken,
    /// Pauses that last.
    pub(in crate::sim) paused: u32,
    /// Cuts of its presence connection that last.
    pub(in crate::sim) presence_cut: u32,
    /// Cuts of all its connections to the database that last.
    pub(in crate::sim) store_cut: u32,
    /// Shortages of sockets on its machine that last.
    pub(in crate::sim) short: u32,
    /// Receivers for which its machine has no port left, one entry a shortage that lasts.
    pub(in crate::sim) ports_spent: Vec<u32>,
    /// Told when its presence is held again.
    pub(in crate::sim) presence: Arc<Notify>,
    /// Told when its connections are cut.
    pub(in crate::sim) cut: Arc<Notify>,
    /// Told when its API has stored an event.
    pub(in crate::sim) accepted: Arc<Notify>,
    /// Told when it goes on.
    pub(in crate::sim) resumed: Arc<Notify>,
    pub(in crate::sim) latencies: Stream,
    waker: Option<Waker>,
}

impl Host {
    pub(super) fn new(seed: Seed, number: u32) -> Host {
        Host {
            number,
            name: format!("w{number}"),
            life: 0,
            holder: WorkerId(0),
            up: false,
            present: false,
            ends: Vec::new(),
            killed: false,
            stop: CancellationToken::new(),
            paused: 0,
            presence_cut: 0,
            store_cut: 0,
            short: 0,
            ports_spent: Vec::new(),
            presence: Arc::default(),
            cut: Arc::default(),
            accepted: Arc::default(),
            resumed: Arc::default(),
            latencies: seed.stream(&format!("sim/latencies/{number}")),
            waker: None,
        }
    }

    /// The process of this life, as the target of a fault.
    pub(in crate::sim) fn target(&self) -> Target {
        Target::Process {
            worker: self.number,
            id: self.holder.to_string(),
        }
    }

    /// Lets the process be polled, now that something about it has changed.
    pub(super) fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    /// True when nothing keeps its session with the database from being made.
    fn may_be_present(&self) -> bool {
        self.up && !self.killed && self.paused == 0 && self.presence_cut == 0 && self.store_cut == 0
    }
}

impl Core {
    /// Takes the presence lock again where nothing is in the way.
    pub(in crate::sim) fn take_presence(&mut self, host: usize) {
        let host = &mut self.hosts[host];
        if self.database_down > 0 || host.present || !host.may_be_present() {
            return;
        }
        self.model.register(host.holder);
        host.present = true;
        host.presence.notify_waiters();
    }

    /// The session of the presence lock ends.
    pub(in crate::sim) fn lose_presence(&mut self, host: usize) {
        let host = &mut self.hosts[host];
        host.present = false;
        self.model.unlock(host.holder);
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim) enum Fate {
    /// Without a word: whatever it had under way is dropped.
    Killed,
    /// In order.
    Stopped,
}

/// A worker inside its process: polled only while the process runs, dropped when it is killed.
pub(in crate::sim) struct Process {
    world: Arc<World>,
    host: usize,
    worker: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Process {
    pub(in crate::sim) fn new(
        world: &Arc<World>,
        host: usize,
        worker: impl Future<Output = ()> + Send + 'static,
    ) -> Process {
        Process {
            world: Arc::clone(world),
            host,
            worker: Some(Box::pin(worker)),
        }
    }

    /// True when it may be polled; none when it is dead.
    fn may_run(&self, context: &Context<'_>) -> Option<bool> {
        let mut core = self.world.core();
        let host = &mut core.hosts[self.host];
        if !host
            .waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(context.waker()))
        {
            host.waker = Some(context.waker().clone());
        }
        (!host.killed).then_some(host.paused == 0)
    }
}

impl Future for Process {
    type Output = Fate;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Fate> {
        loop {
            match self.may_run(context) {
                None => {
                    self.worker = None;
                    return Poll::Ready(Fate::Killed);
                }
                Some(false) => return Poll::Pending,
                Some(true) => {}
            }
            let worker = self.worker.as_mut().expect("a process that has not ended");
            if worker.as_mut().poll(context).is_ready() {
                return Poll::Ready(Fate::Stopped);
            }
            // It may have been struck while it ran.
            if self.may_run(context) == Some(true) {
                return Poll::Pending;
            }
        }
    }
}
