//! When a fault begins: not before a time, and then as soon as something is seen.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::history::op::Op;
use crate::recorder::Recorder;

/// When a fault begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    /// Milliseconds after the storm began, at least: faults before it may take longer.
    pub at_ms: u64,
    /// What must be seen from then on.
    pub on: Sight,
    /// How long that is waited for, in milliseconds; then the fault is skipped.
    pub within_ms: u64,
}

/// What the harness sees just before a fault begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sight {
    /// Nothing in particular.
    Time,
    /// So many requests are open at the receivers.
    OpenRequests(u32),
    /// A receiver is just getting a request of this attempt.
    RequestReceived(u32),
    /// A receiver has just ended a request of this attempt.
    AnswerSent(u32),
}

impl Trigger {
    /// Waits for the sight.
    ///
    /// # Errors
    /// Says what was not seen in time.
    pub(super) async fn wait(&self, recorder: &Recorder) -> Result<(), String> {
        let until = Instant::now() + Duration::from_millis(self.within_ms);
        let (seen, what) = match self.on {
            Sight::Time => return Ok(()),
            Sight::OpenRequests(least) => {
                let open = || recorder.open_requests().len() >= least as usize;
                let seen = open() || recorder.sees(until, |_| open()).await;
                (seen, format!("{least} requests were never open"))
            }
            Sight::RequestReceived(attempt) => {
                let received =
                    |op: &Op| matches!(op, Op::RecvBegin(begin) if begin.attempt == Some(attempt));
                let seen = recorder.sees(until, received).await;
                (seen, format!("no request of attempt {attempt} arrived"))
            }
            Sight::AnswerSent(attempt) => {
                let mut open = recorder.open_of_attempt(attempt);
                let ended = |op: &Op| match op {
                    Op::RecvBegin(begin) if begin.attempt == Some(attempt) => {
                        open.insert(begin.req.clone());
                        false
                    }
                    Op::RecvEnd(end) => open.contains(&end.req),
                    _ => false,
                };
                let seen = recorder.sees(until, ended).await;
                (seen, format!("no request of attempt {attempt} ended"))
            }
        };
        seen.then_some(()).ok_or(what)
    }
}
