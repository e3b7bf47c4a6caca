//! A request at its receiver, from arrival to end.

use std::sync::Arc;
use std::time::Duration;

use dispatcher::event::{AttemptResult, Outcome};
use dispatcher::transport::Request;
use mock_receiver::verify::Signed;
use mock_receiver::{Behavior, RetryAfter, SignatureCheck};
use rand::RngExt;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::SimTransport;
use crate::history::op::{
    ANSWERED, ANSWERED_THEN_RESET, Op, PEER_CLOSED, RecvBegin, RecvEnd, SIG_UNCHECKED, SIG_VALID,
};
use crate::history::sha256_hex;
use crate::sim::fault::{Call, Stage};
use crate::sim::world::{World, unix_us};

/// The `how` of a request that hung until its sender went away.
const HUNG: &str = "hung_until_peer_closed";

pub(super) struct Exchange {
    world: Arc<World>,
    host: usize,
    life: u32,
    request: Request,
    ordinal: Option<u64>,
}

/// How a receiver leaves a request, and what the worker gets of it.
struct Played {
    after: Option<Duration>,
    status: Option<u16>,
    how: &'static str,
    answer: AttemptResult,
}

impl Exchange {
    pub(super) fn new(from: &SimTransport, request: Request) -> Exchange {
        let ordinal = request.target_url.rsplit('/').next();
        Exchange {
            world: Arc::clone(&from.world),
            host: from.host,
            life: from.life,
            ordinal: ordinal.and_then(|ordinal| ordinal.parse().ok()),
            request,
        }
    }

    pub(super) async fn run(self, mut tell: oneshot::Sender<AttemptResult>) {
        let most = self.world.plan.wire_ms_max;
        let (there, back) = {
            let mut core = self.world.core();
            (core.within_ms(most), core.within_ms(most))
        };
        sleep(there).await;
        if self.is_refused() {
            let _ = tell.send(AttemptResult::failed(
                Outcome::Connect,
                "connection refused",
            ));
            return;
        }
        let behavior = self.scripted();
        let req = self.begin(&behavior);
        self.pass(Stage::Applied);
        let played = self.play(&behavior);
        let in_time = match played.after {
            Some(Duration::ZERO) => true,
            Some(after) => tokio::select! {
                biased;
                () = tell.closed() => false,
                () = sleep(after) => true,
            },
            None => {
                tell.closed().await;
                false
            }
        };
        if !in_time {
            let how = if played.after.is_none() {
                HUNG
            } else {
                PEER_CLOSED
            };
            return self.end(req, None, how);
        }
        let lost = self.is_lost();
        if lost && played.status.is_some() {
            self.end(req, played.status, ANSWERED_THEN_RESET);
        } else {
            self.end(req, played.status, played.how);
        }
        sleep(back).await;
        if !lost {
            let _ = tell.send(played.answer);
        }
    }

    fn pass(&self, stage: Stage) -> crate::sim::world::Effect {
        self.world
            .pass(self.host, self.life, Call::Attempt.at(stage))
    }

    fn is_lost(&self) -> bool {
        self.pass(Stage::Replied).is_lost
    }

    fn is_refused(&self) -> bool {
        let receiver = self.planned().map(|event| event.receiver as usize);
        let core = self.world.core();
        receiver.is_some_and(|receiver| core.refusing[receiver] > 0)
    }

    fn planned(&self) -> Option<&crate::schedule::PlannedEvent> {
        let events = &self.world.plan.events;
        let ordinal = self.ordinal?;
        let index = events.binary_search_by_key(&ordinal, |event| event.ordinal);
        index.ok().map(|index| &events[index])
    }

    fn scripted(&self) -> Behavior {
        let number = self.request.number.max(1) as usize;
        let script = self.planned().map_or(&[][..], |event| &event.script);
        let behavior = script.get(number - 1).or(script.last());
        behavior.cloned().unwrap_or_else(|| Behavior::answer(200))
    }

    fn begin(&self, behavior: &Behavior) -> String {
        let t = self.world.now_us();
        let mut core = self.world.core();
        let req = format!("q{}", core.request());
        core.open.push((req.clone(), self.host, self.life));
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
        core.push(t, Op::RecvBegin(begin));
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
        match self.world.secrets.check(signed, unix_us(t) / 1_000_000) {
            SignatureCheck::Valid => SIG_VALID.to_owned(),
            SignatureCheck::Invalid { reason } => format!("invalid: {reason}"),
            SignatureCheck::Unchecked { reason } => format!("{SIG_UNCHECKED}: {reason}"),
        }
    }

    fn end(&self, req: String, status: Option<u16>, how: &str) {
        let t = self.world.now_us();
        let mut core = self.world.core();
        core.open.retain(|(open, _, _)| *open != req);
        let end = RecvEnd {
            req,
            ordinal: self.ordinal,
            status,
            how: how.to_owned(),
        };
        core.push(t, Op::RecvEnd(end));
    }

    fn play(&self, behavior: &Behavior) -> Played {
        let failed = |after_ms, how, outcome| Played {
            after: Some(Duration::from_millis(after_ms)),
            status: None,
            how,
            answer: AttemptResult::failed(outcome, how),
        };
        match behavior {
            Behavior::Answer {
                status,
                retry_after,
                after_ms,
            } => answered(*status, retry_after.as_ref(), *after_ms),
            Behavior::ResetAfterAnswer { status, .. } => {
                let mut played = answered(*status, None, 0);
                played.how = ANSWERED_THEN_RESET;
                if self.world.core().draws.random_range(0..2) == 0 {
                    played.answer = AttemptResult::failed(Outcome::Body, "reset");
                }
                played
            }
            Behavior::Hang { .. } | Behavior::HangAfterHead { .. } => Played {
                after: None,
                ..failed(0, HUNG, Outcome::Timeout)
            },
            Behavior::ResetBeforeAnswer { after_ms } => failed(*after_ms, "reset", Outcome::Reset),
            Behavior::CloseBeforeAnswer { after_ms } => failed(*after_ms, "closed", Outcome::Reset),
            Behavior::EndlessBody { status, .. } => failed(
                0,
                "broken_off",
                Outcome::ResponseTooLarge { status: *status },
            ),
            _ => failed(0, "broken_off", Outcome::Body),
        }
    }
}

fn answered(status: u16, retry_after: Option<&RetryAfter>, after_ms: u64) -> Played {
    let outcome = if (200..300).contains(&status) {
        Outcome::Delivered { status }
    } else {
        let retry_after = match retry_after {
            Some(RetryAfter::Seconds(seconds)) => Some(Duration::from_secs(*seconds)),
            _ => None,
        };
        Outcome::Rejected {
            status,
            retry_after,
        }
    };
    Played {
        after: Some(Duration::from_millis(after_ms)),
        status: Some(status),
        how: ANSWERED,
        answer: AttemptResult {
            outcome,
            error: None,
            snippet: None,
        },
    }
}
