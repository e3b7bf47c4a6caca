//! Waits until the trigger condition of a fault holds.

use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, timeout_at};

use crate::fault::Link;
use crate::history::op::Op;
use crate::links::Links;
use crate::plan::{Condition, Trigger};
use crate::proxy::{Passed, Proxy, Statement};
use crate::recorder::Recorder;

/// Waits for the condition of a trigger.
///
/// # Errors
/// Returns the reason if the condition did not hold in time.
pub(super) async fn wait(
    trigger: &Trigger,
    recorder: &Recorder,
    links: &Links,
) -> Result<(), String> {
    let until = Instant::now() + Duration::from_millis(trigger.within_ms);
    let (held, reason) = match trigger.on {
        Condition::Time => return Ok(()),
        Condition::OpenRequests(least) => {
            let open = || recorder.open_requests().len() >= least as usize;
            let held = open() || recorder.sees(until, |_| open()).await;
            (held, format!("{least} requests were never open"))
        }
        Condition::RequestReceived(attempt) => {
            let received =
                |op: &Op| matches!(op, Op::RecvBegin(begin) if begin.attempt == Some(attempt));
            let held = recorder.sees(until, received).await;
            (held, format!("no request of attempt {attempt} arrived"))
        }
        Condition::AnswerSent(attempt) => {
            let held = request_ends(attempt, recorder, until).await;
            (held, format!("no request of attempt {attempt} ended"))
        }
        Condition::ClaimCommitted(worker) => {
            let wanted = Passed::Committed(Statement::Claim);
            let link = links.link(Link::ToPostgres(worker))?;
            let held = passes(link, wanted, until).await;
            (held, format!("no claim of w{worker} was committed"))
        }
        Condition::SettleSent(worker) => {
            let wanted = Passed::Sent(Statement::Settle);
            let link = links.link(Link::ToPostgres(worker))?;
            let held = passes(link, wanted, until).await;
            (held, format!("no settle of w{worker} was sent"))
        }
    };
    held.then_some(()).ok_or(reason)
}

/// Waits until a receiver ends a request of this attempt. Returns false at `until`.
async fn request_ends(attempt: u32, recorder: &Recorder, until: Instant) -> bool {
    let mut open = recorder.open_of_attempt(attempt);
    let ended = |op: &Op| match op {
        Op::RecvBegin(begin) if begin.attempt == Some(attempt) => {
            open.insert(begin.req.clone());
            false
        }
        Op::RecvEnd(end) => open.contains(&end.req),
        _ => false,
    };
    recorder.sees(until, ended).await
}

/// Waits until this passes on a link. Returns false at `until`.
async fn passes(link: &Proxy, wanted: Passed, until: Instant) -> bool {
    let mut passed = link.passed();
    let seen = async {
        loop {
            match passed.recv().await {
                Ok(passed) if passed == wanted => return true,
                // A missed item does not start the fault; more items follow.
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return false,
            }
        }
    };
    timeout_at(until, seen).await.unwrap_or(false)
}
