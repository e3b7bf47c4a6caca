//! The future of a worker inside its simulated process.
//!
//! A pause stops the polling of the worker. A kill drops the worker with all its open calls.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::context::SimContext;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProcessEnd {
    /// Killed: the worker was dropped with everything that it had in flight.
    Killed,
    /// The worker returned after its graceful stop.
    Stopped,
}

/// A worker that is polled only while its process may run.
pub(super) struct RunningWorker {
    context: Arc<SimContext>,
    process: usize,
    worker: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

/// Whether the process may run now.
#[derive(PartialEq, Eq)]
enum Permission {
    Runs,
    Paused,
    Killed,
}

impl RunningWorker {
    pub(super) fn new(
        context: &Arc<SimContext>,
        process: usize,
        worker: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        Self { context: Arc::clone(context), process, worker: Some(Box::pin(worker)) }
    }

    /// Returns the permission of the process, and registers the waker for the next change.
    fn permission(&self, task: &Context<'_>) -> Permission {
        let mut state = self.context.state();
        let process = &mut state.processes[self.process];
        let registered = process.waker.as_ref();
        if !registered.is_some_and(|waker| waker.will_wake(task.waker())) {
            process.waker = Some(task.waker().clone());
        }
        if process.is_killed {
            Permission::Killed
        } else if process.pauses > 0 {
            Permission::Paused
        } else {
            Permission::Runs
        }
    }
}

impl Future for RunningWorker {
    type Output = ProcessEnd;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<ProcessEnd> {
        loop {
            match self.permission(task) {
                Permission::Killed => {
                    self.worker = None;
                    return Poll::Ready(ProcessEnd::Killed);
                }
                Permission::Paused => return Poll::Pending,
                Permission::Runs => {}
            }
            let worker = self.worker.as_mut().expect("the process has not ended");
            if worker.as_mut().poll(task).is_ready() {
                return Poll::Ready(ProcessEnd::Stopped);
            }
            // A fault may have struck during the poll.
            if self.permission(task) == Permission::Runs {
                return Poll::Pending;
            }
        }
    }
}
