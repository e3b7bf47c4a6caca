//! When a fault begins: not before a time, and then as soon as something is seen.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, timeout_at};

use crate::fault::Link;
use crate::history::op::Op;
use crate::links::Links;
use crate::proxy::{Passed, Proxy, Statement};
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
    /// A claim of this worker, from 0, is just committed; its reply is about to come.
    ClaimCommitted(u32),
    /// This worker, from 0, has just sent a settle.
    SettleSent(u32),
}

impl Sight {
    /// True when it is seen on a link.
    #[must_use]
    pub const fn is_on_a_link(self) -> bool {
        matches!(self, Sight::ClaimCommitted(_) | Sight::SettleSent(_))
    }
}

impl Trigger {
    /// Waits for the sight.
    ///
    /// # Errors
    /// Says what was not seen in time.
    pub(super) async fn wait(&self, recorder: &Recorder, links: &Links) -> Result<(), String> {
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
            Sight::ClaimCommitted(worker) => {
                let wanted = Passed::Committed(Statement::Claim);
                let link = links.link(Link::ToPostgres(worker))?;
                (
                    passes(link, wanted, until).await,
                    format!("no claim of w{worker} was committed"),
                )
            }
            Sight::SettleSent(worker) => {
                let wanted = Passed::Sent(Statement::Settle);
                let link = links.link(Link::ToPostgres(worker))?;
                (
                    passes(link, wanted, until).await,
                    format!("no settle of w{worker} was sent"),
                )
            }
        };
        seen.then_some(()).ok_or(what)
    }
}

/// Waits until this passes on a link; false at `until`.
async fn passes(link: &Proxy, wanted: Passed, until: Instant) -> bool {
    let mut passed = link.passed();
    let seen = async {
        loop {
            match passed.recv().await {
                Ok(passed) if passed == wanted => return true,
                // What was missed was no sight; more will come.
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return false,
            }
        }
    };
    timeout_at(until, seen).await.unwrap_or(false)
}
