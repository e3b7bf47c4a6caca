//! A running receiver: accepts connections and serves each in a separate task.
//!
//! A stop ends all tasks immediately. It must look like a crash to the peers, and no task may
//! continue after the test that started it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::behavior::answer_then;
use crate::behavior::played::Next;
use crate::journal::Journal;
use crate::peer::Peer;
use crate::route::{self, Context};
use crate::script::Script;
use crate::verify::Secrets;

/// Maximum number of concurrent connections. Further ones wait in the accept queue.
const CONNECTIONS_MAX: usize = 65_536;

/// Pause after a failed accept. The usual reason is a lack of file descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);

/// A running receiver. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    stop: CancellationToken,
    connections: TaskTracker,
}

impl Receiver {
    /// Serves `listener` until the receiver is stopped or dropped.
    ///
    /// # Panics
    ///
    /// If the listener has no local address, or outside of a Tokio runtime.
    pub fn start(
        listener: TcpListener,
        secrets: Secrets,
        script: Script,
        journal: Journal,
    ) -> Self {
        let address = listener.local_addr().expect("a bound listener has an address");
        let context = Arc::new(Context { address, secrets, script, journal });
        let receiver =
            Self { address, stop: CancellationToken::new(), connections: TaskTracker::new() };
        let accepting =
            accept(listener, context, receiver.stop.clone(), receiver.connections.clone());
        let stop = receiver.stop.clone();
        receiver.connections.spawn(async move {
            stop.run_until_cancelled(accepting).await;
        });
        receiver
    }

    /// Returns the listening address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the listener and every connection, and waits until all are closed.
    pub async fn stop(self) {
        self.stop.cancel();
        self.connections.close();
        self.connections.wait().await;
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn accept(
    listener: TcpListener,
    context: Arc<Context>,
    stop: CancellationToken,
    connections: TaskTracker,
) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let permit = Arc::clone(&permits).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                log_accept_error(&error);
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                continue;
            }
        };
        let context = Arc::clone(&context);
        let stop = stop.clone();
        connections.spawn(async move {
            stop.run_until_cancelled(serve(stream, &context)).await;
            drop(permit);
        });
    }
}

fn log_accept_error(error: &io::Error) {
    tracing::warn!(%error, "accept failed, retrying in 50 ms");
}

async fn serve(stream: TcpStream, context: &Context) {
    // Without this, a small response waits until the peer has acknowledged the one before.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "setting TCP_NODELAY failed");
    }
    let mut peer = Peer::new(stream);
    loop {
        let mut next = route::serve(context, &mut peer).await;
        if let Next::Then(then, then_ms) = next {
            next = answer_then::step(&mut peer, then, then_ms).await;
        }
        match next {
            Next::Again | Next::Then(..) => {}
            Next::Close => return peer.close().await,
            Next::Reset => return peer.reset(),
        }
    }
}
