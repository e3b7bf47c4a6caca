//! A receiver that holds its responses until the test opens it.
//!
//! The test then knows which requests are open when a fault starts, without a sleep.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::raw::read_one;

/// Reads every request and responds with 200 after [`Gated::open`].
pub(crate) struct Gated {
    address: SocketAddr,
    arrived: Arc<AtomicUsize>,
    open: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl Gated {
    /// Starts a closed receiver.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("the listener is bound");
        let (arrived, open) = (Arc::<AtomicUsize>::default(), watch::Sender::new(false));
        let (count, is_open) = (Arc::clone(&arrived), open.subscribe());
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(respond(stream, Arc::clone(&count), is_open.clone()));
            }
        });
        Self { address, arrived, open, serving }
    }

    /// Releases the response to every request, also to later ones.
    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }

    /// Number of requests that were read completely.
    pub(crate) fn arrived(&self) -> usize {
        self.arrived.load(Ordering::SeqCst)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }
}

impl Drop for Gated {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Serves one connection until the client closes it or the receiver is dropped.
async fn respond(
    mut stream: TcpStream,
    arrived: Arc<AtomicUsize>,
    mut open: watch::Receiver<bool>,
) {
    while read_one(&mut stream).await.is_some() {
        arrived.fetch_add(1, Ordering::SeqCst);
        if open.wait_for(|open| *open).await.is_err() {
            return;
        }
        let response = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        if stream.write_all(response).await.is_err() {
            return;
        }
    }
}
