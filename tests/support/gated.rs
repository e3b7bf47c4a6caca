//! A receiver that answers when it is told to: no clock decides what is under way when a fault comes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::raw::read_one;

/// Takes every request and answers 200 as soon as it is open.
pub(crate) struct Gated {
    address: SocketAddr,
    arrived: Arc<AtomicUsize>,
    open: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl Gated {
    /// Closed for now.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (arrived, open) = (Arc::<AtomicUsize>::default(), watch::Sender::new(false));
        let (count, is_open) = (Arc::clone(&arrived), open.subscribe());
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&count), is_open.clone()));
            }
        });
        Self {
            address,
            arrived,
            open,
            serving,
        }
    }

    /// Answers what has come and what comes.
    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }

    /// How many requests have come in whole.
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

/// Ends with the connection, or with the receiver.
async fn answer(mut stream: TcpStream, arrived: Arc<AtomicUsize>, mut open: watch::Receiver<bool>) {
    while read_one(&mut stream).await.is_some() {
        arrived.fetch_add(1, Ordering::SeqCst);
        if open.wait_for(|open| *open).await.is_err() {
            return;
        }
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        if stream.write_all(answer).await.is_err() {
            return;
        }
    }
}
