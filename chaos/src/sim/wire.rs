//! The wire: attempts travel to scripted receivers and back, in virtual time.
//!
//! A receiver here does what the mock receiver does on a real socket, as far as a worker and a
//! history can tell: it verifies the signature by the receiver's own code, plays the script by ordinal
//! and attempt, and writes down the begin and the end of each request.

mod receiver;

use std::sync::Arc;
use std::time::Duration;

use dispatcher::event::{Answer, Outcome};
use dispatcher::transport::{Request, Transport};
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
    async fn attempt(&self, mut request: Request) -> Answer {
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
                return lie;
            }
            mutant.request(&mut request);
        }
        let deadline = Duration::from_millis(self.world.plan.settings.http_timeout_ms);
        let (tell, answer) = oneshot::channel();
        let exchange = Exchange::new(self, request.clone());
        tokio::spawn(exchange.run(tell));
        let answer = match timeout(deadline, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Answer::failed(Outcome::Reset, "the connection ended"),
            Err(_) => Answer::failed(Outcome::Timeout, "no whole answer in time"),
        };
        match mutant {
            Some(mutant) => mutant.answer(&request, answer),
            None => answer,
        }
    }
}
