//! A running receiver: accepts connections and serves each on a task of its own.
//!
//! All of them end with the receiver, at once: a stop must look like a crash to the peers, and
//! nothing may go on in the background of a test that is over.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::behavior::Next;
use crate::journal::Journal;
use crate::peer::Peer;
use crate::route::{self, Context};
use crate::script::Script;
use crate::verify::Secrets;

/// How many connections are served at a time; more wait in the listener's queue.
const CONNECTIONS_MAX: usize = 65_536;

/// The pause after a failed accept, which is mostly a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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
    /// When the listener has no local address, and outside of a Tokio runtime.
    pub fn start(
        listener: TcpListener,
        secrets: Secrets,
        script: Script,
        journal: Journal,
    ) -> Self {
        let address = listener
            .local_addr()
            .expect("a bound listener has an address");
        let context = Arc::new(Context {
            address,
            secrets,
            script,
            journal,
        });
        let receiver = Self {
            address,
            stop: CancellationToken::new(),
            connections: TaskTracker::new(),
        };
        let accepting = accept(
            listener,
            context,
            receiver.stop.clone(),
            receiver.connections.clone(),
        );
        let stop = receiver.stop.clone();
        receiver.connections.spawn(async move {
            stop.run_until_cancelled(accepting).await;
        });
        receiver
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the listener and every connection, and waits until all of them are closed.
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
                report(&error);
                tokio::time::sleep(ACCEPT_PAUSE).await;
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

fn report(error: &io::Error) {
    tracing::warn!(%error, "could not accept a connection; trying again");
}

async fn serve(stream: TcpStream, context: &Context) {
    // Small answers must not wait for the peer's acknowledgement of the one before.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "could not switch Nagle's algorithm off");
    }
    let mut peer = Peer::new(stream);
    loop {
        match route::serve(context, &mut peer).await {
            Next::Again => {}
            Next::Close => return peer.close().await,
            Next::Reset => return peer.reset(),
        }
    }
}
