//! Serves a router over a listener with bounds on slow clients, and stops without cutting an answer short.

use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// How long a client may take to send the head of a request, idle time on a kept connection included.
const HEAD_SECONDS_MAX: Duration = Duration::from_secs(30);

/// How long requests under way may take once the server is told to stop.
const STOP_SECONDS_MAX: Duration = Duration::from_secs(5);

/// The pause after an accept that failed, e.g. because no file descriptor was free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until it is told to stop; then no connection is taken any more and those under way are finished.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let graceful = GracefulShutdown::new();
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                failing = false;
                serve_connection(stream, router.clone(), &graceful);
            }
            Err(error) => {
                if !failing {
                    tracing::warn!(%error, "connections cannot be accepted; are there too few file descriptors?");
                }
                failing = true;
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    if timeout(STOP_SECONDS_MAX, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("some requests did not end in time");
    }
}

fn serve_connection(stream: TcpStream, router: Router, graceful: &GracefulShutdown) {
    // An answer is small: do not let it wait for an acknowledgement.
    let _ = stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_SECONDS_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // What goes wrong with a connection is the client's affair: it sees it as well as we do.
    let connection = graceful.watch(connection);
    tokio::spawn(async move { drop(connection.await) });
}
