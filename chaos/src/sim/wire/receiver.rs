//! One request at its simulated receiver, from arrival to end.

use std::sync::Arc;
use std::time::Duration;

use dispatcher::event::{AttemptResult, Outcome};
use dispatcher::transport::Request;
use mock_receiver::verify::Signed;
use mock_receiver::{Behavior, RetryAfter, SignatureCheck};
use rand::RngExt;
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::history::op::{
    ANSWERED, ANSWERED_THEN_RESET, Op, PEER_CLOSED, RecvBegin, RecvEnd, SIG_UNCHECKED, SIG_VALID,
};
use crate::history::sha256_hex;
use crate::plan::PlannedEvent;
use crate::sim::clock::unix_us;
use crate::sim::context::SimContext;
use crate::sim::failpoint::{Call, Stage};
use crate::sim::inject::CallEffect;
use crate::sim::state::OpenRequest;

/// The `how` of a request that hung until the sender closed the connection.
const HUNG: &str = "hung_until_peer_closed";

/// Duration of a hang, in milliseconds. It is longer than every attempt timeout.
const HANG_MS: u64 = 60_000;

/// A request of one attempt and the life of the process that sent it.
pub(super) struct Exchange {
    context: Arc<SimContext>,
    process: usize,
    life: u32,
    request: Request,
    ordinal: Option<u64>,
}

/// The end of a request at the receiver, and the result for the worker.
struct Ending {
    /// Time until the end; none if the receiver hangs.
    after: Option<Duration>,
    status: Option<u16>,
    how: &'static str,
    answer: AttemptResult,
}

impl Exchange {
    pub(super) fn new(
        context: &Arc<SimContext>,
        process: usize,
        life: u32,
        request: Request,
    ) -> Self {
        let ordinal = request.target_url.rsplit('/').next();
        Self {
            context: Arc::clone(context),
            process,
            life,
            ordinal: ordinal.and_then(|ordinal| ordinal.parse().ok()),
            request,
        }
    }

    /// Runs the request and sends the result to the worker, unless the response is lost.
    pub(super) async fn run(self, mut reply: oneshot::Sender<AttemptResult>) {
        let most_ms = self.context.schedule.wire_ms_max;
        let (there, back) = {
            let mut state = self.context.state();
            (state.draw_delay(most_ms), state.draw_delay(most_ms))
        };
        sleep(there).await;
        if self.is_refused() {
            let _ = reply.send(AttemptResult::failed(Outcome::Connect, "connection refused"));
            return;
        }
        let behavior = self.scripted();
        let req = self.begin(&behavior);
        self.hit(Stage::Applied);
        let ending = self.ending(&behavior);
        let in_time = match ending.after {
            Some(Duration::ZERO) => true,
            Some(after) => tokio::select! {
                biased;
                () = reply.closed() => false,
                () = sleep(after) => true,
            },
            None => {
                reply.closed().await;
                false
            }
        };
        if !in_time {
            let how = if ending.after.is_none() { HUNG } else { PEER_CLOSED };
            return self.end(req, None, how);
        }
        let is_lost = self.hit(Stage::Replied).loses_response;
        if is_lost && ending.status.is_some() {
            self.end(req, ending.status, ANSWERED_THEN_RESET);
        } else {
            self.end(req, ending.status, ending.how);
        }
        sleep(back).await;
        if !is_lost {
            let _ = reply.send(ending.answer);
        }
    }

    fn hit(&self, stage: Stage) -> CallEffect {
        self.context.hit(self.process, self.life, Call::Attempt.at(stage))
    }

    fn is_refused(&self) -> bool {
        let receiver = self.planned().map(|event| event.receiver as usize);
        let state = self.context.state();
        receiver.is_some_and(|receiver| state.refusals[receiver] > 0)
    }

    fn planned(&self) -> Option<&PlannedEvent> {
        let events = &self.context.schedule.events;
        let ordinal = self.ordinal?;
        let index = events.binary_search_by_key(&ordinal, |event| event.ordinal);
        index.ok().map(|index| &events[index])
    }

    fn scripted(&self) -> Behavior {
        let hung_receivers = self.context.state().hung_receivers;
        if self.planned().is_some_and(|event| event.receiver < hung_receivers) {
            return Behavior::Hang { hold_ms: HANG_MS };
        }
        let number = self.request.number.max(1) as usize;
        let script = self.planned().map_or(&[][..], |event| &event.script);
        let behavior = script.get(number - 1).or(script.last());
        behavior.cloned().unwrap_or_else(|| Behavior::answer(200))
    }

    fn begin(&self, behavior: &Behavior) -> String {
        let t = self.context.now_us();
        let mut state = self.context.state();
        let number = state.next_request();
        let req = match self.planned() {
            Some(event) => format!("r{}-{number}", event.receiver),
            None => format!("q{number}"),
        };
        state.open_requests.push(OpenRequest {
            name: req.clone(),
            process: self.process,
            life: self.life,
        });
        let begin = RecvBegin {
            req: req.clone(),
            ordinal: self.ordinal,
            id: Some(self.request.id.to_string()),
            attempt: Some(self.request.number),
            target: self.request.target_url.clone(),
            sha256: sha256_hex(&self.request.payload),
            sig: self.verified(t),
            scripted: Some(behavior.into()),
        };
        state.push(t, Op::RecvBegin(begin));
        req
    }

    fn verified(&self, t: u64) -> String {
        let id = self.request.id.to_string();
        let timestamp = self.request.started_at.timestamp().to_string();
        let signed = Signed {
            id: Some(id.as_bytes()),
            timestamp: Some(timestamp.as_bytes()),
            signature: Some(self.request.signature.as_bytes()),
            body: &self.request.payload,
        };
        match self.context.secrets.check(signed, unix_us(t) / 1_000_000) {
            SignatureCheck::Valid => SIG_VALID.to_owned(),
            SignatureCheck::Invalid { reason } => format!("invalid: {reason}"),
            SignatureCheck::Unchecked { reason } => format!("{SIG_UNCHECKED}: {reason}"),
        }
    }

    fn end(&self, req: String, status: Option<u16>, how: &str) {
        let t = self.context.now_us();
        let mut state = self.context.state();
        state.open_requests.retain(|request| request.name != req);
        let end = RecvEnd { req, ordinal: self.ordinal, status, how: how.to_owned() };
        state.push(t, Op::RecvEnd(end));
    }

    fn ending(&self, behavior: &Behavior) -> Ending {
        let failed = |after_ms, how, outcome| Ending {
            after: Some(Duration::from_millis(after_ms)),
            status: None,
            how,
            answer: AttemptResult::failed(outcome, how),
        };
        match behavior {
            Behavior::Answer { status, retry_after, after_ms } => {
                answered(*status, retry_after.as_ref(), *after_ms)
            }
            Behavior::ResetAfterAnswer { status, .. } => {
                let mut ending = answered(*status, None, 0);
                ending.how = ANSWERED_THEN_RESET;
                if self.context.state().draws.random_range(0..2) == 0 {
                    ending.answer = AttemptResult::failed(Outcome::Body, "reset");
                }
                ending
            }
            Behavior::Hang { .. } | Behavior::HangAfterHead { .. } => {
                Ending { after: None, ..failed(0, HUNG, Outcome::Timeout) }
            }
            Behavior::ResetBeforeAnswer { after_ms } => failed(*after_ms, "reset", Outcome::Reset),
            Behavior::CloseBeforeAnswer { after_ms } => failed(*after_ms, "closed", Outcome::Reset),
            Behavior::EndlessBody { status, .. } => {
                failed(0, "broken_off", Outcome::ResponseTooLarge { status: *status })
            }
            _ => failed(0, "broken_off", Outcome::Body),
        }
    }
}

fn answered(status: u16, retry_after: Option<&RetryAfter>, after_ms: u64) -> Ending {
    let outcome = if (200..300).contains(&status) {
        Outcome::Delivered { status }
    } else {
        let retry_after = match retry_after {
            Some(RetryAfter::Seconds(seconds)) => Some(Duration::from_secs(*seconds)),
            _ => None,
        };
        Outcome::Rejected { status, retry_after }
    };
    Ending {
        after: Some(Duration::from_millis(after_ms)),
        status: Some(status),
        how: ANSWERED,
        answer: AttemptResult { outcome, error: None, snippet: None },
    }
}
