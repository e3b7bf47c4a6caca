//! The wire: attempts travel to scripted receivers and back, in virtual time.
//!
//! A receiver here does what the mock receiver does on a real socket, as far as a worker and a
//! history can tell: it verifies the signature by the receiver's own code, plays the script by ordinal
//! and attempt, and writes down the begin and the end of each request.

mod receiver;

use std::sync::Arc;
use std::time::Duration;

use dispatcher::event::{AttemptResult, Outcome};
use dispatcher::transport::{NotSent, Request, Transport};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::fault::{Call, Stage};
use super::store::stand_still;
use super::world::World;
use receiver::Exchange;

/// The transport, seen from one life of one process.
#[derive(Clone)]
pub(super) struct SimTransport {
    pub(super) world: Arc<World>,
    pub(super) host: usize,
    pub(super) life: u32,
}

impl Transport for SimTransport {
    async fn attempt(&self, mut request: Request) -> Result<AttemptResult, NotSent> {
        let sent = Call::Attempt.at(Stage::Sent);
        let effect = self.world.pass(self.host, self.life, sent);
        if effect.dies {
            std::future::pending::<()>().await;
        }
        if effect.pauses {
            stand_still(&self.world, self.host).await;
        }
        if effect.panics {
            // Past the panic hook: this one is meant, and nobody needs to read of it.
            std::panic::resume_unwind(Box::new("a panic inside an attempt"));
        }
        let mutant = self.world.mutant;
        if let Some(mutant) = mutant {
            if let Some(lie) = mutant.instead_of_sending(&request) {
                return Ok(lie);
            }
            mutant.request(&mut request);
        }
        if let Some(why) = self.shortage(&request) {
            return match mutant {
                Some(mutant) => mutant.not_sent(why),
                None => Err(why),
            };
        }
        let deadline = Duration::from_millis(self.world.plan.settings.http_timeout_ms);
        let (tell, answer) = oneshot::channel();
        let exchange = Exchange::new(self, request.clone());
        tokio::spawn(exchange.run(tell));
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
    /// Why nothing can leave this worker's machine just now, for this target or at all.
    fn shortage(&self, request: &Request) -> Option<NotSent> {
        let receiver = request.target_url.strip_prefix("http://r");
        let receiver = receiver.and_then(|rest| rest.split('.').next()?.parse().ok());
        let core = self.world.core();
        let host = &core.hosts[self.host];
        if host.short > 0 {
            return Some(NotSent::Machine("too many open files".into()));
        }
        let spent = receiver.is_some_and(|receiver: u32| host.ports_spent.contains(&receiver));
        spent.then(|| NotSent::Target("no local port is free".into()))
    }
}
