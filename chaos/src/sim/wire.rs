//! The transport of the simulation: sends attempts to scripted receivers in virtual time.
//!
//! A simulated receiver verifies the signature with the code of the mock receiver, follows the
//! script of the event's ordinal and attempt, and records the begin and the end of each request.

mod receiver;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use dispatcher::event::{AttemptResult, Outcome};
use dispatcher::transport::{NotSent, Request, Transport};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::clock::unix_us;
use super::context::SimContext;
use super::failpoint::{Call, Stage};
use super::store::wait_while_paused;
use receiver::Exchange;

/// The transport of one life of one process.
#[derive(Clone)]
pub(super) struct SimTransport {
    pub(super) context: Arc<SimContext>,
    pub(super) process: usize,
    pub(super) life: u32,
}

impl Transport for SimTransport {
    fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(unix_us(self.context.now_us()))
            .expect("simulated times are in the range of chrono")
    }

    async fn attempt(&self, mut request: Request) -> Result<AttemptResult, NotSent> {
        let sent = Call::Attempt.at(Stage::Sent);
        let effect = self.context.hit(self.process, self.life, sent);
        if effect.dies {
            std::future::pending::<()>().await;
        }
        if effect.pauses {
            wait_while_paused(&self.context, self.process).await;
        }
        if effect.panics {
            // `resume_unwind` skips the panic hook, so the planned panic prints nothing.
            std::panic::resume_unwind(Box::new("a panic inside an attempt"));
        }
        let mutant = self.context.mutant;
        if let Some(mutant) = mutant {
            if let Some(forged) = mutant.instead_of_sending(&request) {
                return Ok(forged);
            }
            mutant.request(&mut request);
        }
        if let Some(not_sent) = self.local_exhaustion(&request) {
            return match mutant {
                Some(mutant) => mutant.not_sent(not_sent),
                None => Err(not_sent),
            };
        }
        let deadline = Duration::from_millis(self.context.schedule.settings.http_timeout_ms);
        let (reply, answer) = oneshot::channel();
        let exchange = Exchange::new(&self.context, self.process, self.life, request.clone());
        tokio::spawn(exchange.run(reply));
        let answer = match timeout(deadline, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => AttemptResult::failed(Outcome::Reset, "the connection ended"),
            Err(_) => AttemptResult::failed(Outcome::Timeout, "no whole answer in time"),
        };
        Ok(match mutant {
            Some(mutant) => mutant.answer(&request, answer),
            None => answer,
        })
    }
}

impl SimTransport {
    /// Returns the local exhaustion that keeps this request from being sent, if there is one.
    fn local_exhaustion(&self, request: &Request) -> Option<NotSent> {
        let receiver = request.target_url.strip_prefix("http://r");
        let receiver = receiver.and_then(|rest| rest.split('.').next()?.parse().ok());
        let state = self.context.state();
        let process = &state.processes[self.process];
        if process.socket_exhaustions > 0 {
            return Some(NotSent::Machine("too many open files".into()));
        }
        let exhausted = &process.exhausted_receivers;
        let is_exhausted = receiver.is_some_and(|receiver: u32| exhausted.contains(&receiver));
        is_exhausted.then(|| NotSent::Target("no local port is free".into()))
    }
}
