//! Serves a router over a listener with bounds on how many and how slow its clients are, and stops without cutting an answer
//! short.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;

use super::crowd::{Crowd, Guest};

/// How long a client may take to send the head of a request, idle time on a kept connection included.
const HEAD_SECONDS_MAX: Duration = Duration::from_secs(30);

/// How long a client may take none of an answer. Whoever sends requests and reads nothing would keep its connection for ever.
const UNREAD_SECONDS_MAX: Duration = Duration::from_secs(30);

/// How long requests under way may take once the server is told to stop, if a stop may take as long.
const STOP_SECONDS_MAX: Duration = Duration::from_secs(5);

/// The pause after an accept that failed, e.g. because no file descriptor was free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until it is told to stop; then no connection is taken any more and those under way are finished. When
/// `connections_max` are open, the idlest is closed for the next. The stop comes with how long it may take.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    connections_max: u32,
    (stop, stop_max): (CancellationToken, Duration),
) {
    let crowd = Crowd::new(connections_max);
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = accept(&listener, &crowd) => accepted,
        };
        match accepted {
            Ok((stream, guest)) => {
                failing = false;
                // An answer is small: do not let it wait for an acknowledgement.
                let _ = stream.set_nodelay(true);
                tokio::spawn(serve_guest(stream, router.clone(), guest, stop.clone()));
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
    if timeout(STOP_SECONDS_MAX.min(stop_max), crowd.empty())
        .await
        .is_err()
    {
        tracing::warn!("some requests did not end in time");
    }
}

/// Nobody is sent away before the next client is there.
async fn accept(
    listener: &TcpListener,
    crowd: &Arc<Crowd>,
) -> std::io::Result<(TcpStream, Arc<Guest>)> {
    let (stream, _) = listener.accept().await?;
    Ok((stream, crowd.admit().await))
}

async fn serve_guest(
    stream: impl AsyncRead + AsyncWrite + Send + 'static,
    router: Router,
    guest: Arc<Guest>,
    stop: CancellationToken,
) {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(UNREAD_SECONDS_MAX));
    let routed = TowerToHyperService::new(router);
    let service = service_fn(|request| {
        let busy = guest.begin();
        let answer = routed.call(request);
        async move {
            let answer = answer.await;
            drop(busy);
            answer
        }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_SECONDS_MAX)
            .serve_connection(TokioIo::new(Box::pin(stream)), service)
    );
    // What goes wrong with a connection is the client's affair: it sees it as well as we do.
    tokio::select! {
        biased;
        _ = connection.as_mut() => return,
        () = stop.cancelled() => {}
        () = guest.dismissed() => {
            if guest.is_idle() {
                return;
            }
        }
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::net::SocketAddr;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::Notify;
    use tokio::time::Instant;

    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

    /// Two places; a request is answered when it may be.
    async fn start(may: Arc<Notify>, began: Arc<Notify>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = || async move {
            began.notify_one();
            may.notified().await;
        };
        let router = Router::new().route("/", get(answer));
        let stop = (CancellationToken::new(), STOP_SECONDS_MAX);
        tokio::spawn(serve(listener, router, 2, stop));
        address
    }

    async fn ask(address: SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(REQUEST).await.unwrap();
        stream
    }

    async fn answered(stream: &mut TcpStream) {
        let mut head = [0; 15];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200 OK");
    }

    // There are two places, so the third client is only served because the first is closed, which is the idlest.
    #[tokio::test]
    async fn when_all_places_are_taken_the_idlest_makes_room() {
        let (may, began) = (Arc::<Notify>::default(), Arc::<Notify>::default());
        let address = start(may.clone(), began.clone()).await;
        let mut idle = TcpStream::connect(address).await.unwrap();
        let mut busy = ask(address).await;
        began.notified().await;
        let mut third = ask(address).await;
        assert_eq!(
            idle.read(&mut [0]).await.unwrap(),
            0,
            "the idle one is closed"
        );
        began.notified().await;
        may.notify_waiters();
        answered(&mut busy).await;
        answered(&mut third).await;
    }

    // Both places are busy: the third client waits, and nobody's answer is cut short for it.
    #[tokio::test]
    async fn whoever_waits_for_an_answer_gets_it_before_making_room() {
        let (may, began) = (Arc::<Notify>::default(), Arc::<Notify>::default());
        let address = start(may.clone(), began.clone()).await;
        let mut first = ask(address).await;
        began.notified().await;
        let mut second = ask(address).await;
        began.notified().await;
        let mut third = ask(address).await;
        may.notify_waiters();
        answered(&mut first).await;
        answered(&mut second).await;
        began.notified().await;
        may.notify_waiters();
        answered(&mut third).await;
    }

    // The request is never answered. From the stop on time is virtual: nothing here waits for a clock.
    #[tokio::test]
    async fn a_stop_waits_for_requests_under_way_no_longer_than_it_may_take() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let began = Arc::<Notify>::default();
        let begin = Arc::clone(&began);
        let answer = || async move {
            begin.notify_one();
            std::future::pending::<()>().await;
        };
        let router = Router::new().route("/", get(answer));
        let (stop, stop_max) = (CancellationToken::new(), STOP_SECONDS_MAX / 2);
        let serving = tokio::spawn(serve(listener, router, 2, (stop.clone(), stop_max)));
        let _client = ask(address).await;
        began.notified().await;
        tokio::time::pause();
        let since = Instant::now();
        stop.cancel();
        serving.await.unwrap();
        assert_eq!(since.elapsed().as_secs(), stop_max.as_secs());
    }

    // The pipe is full after the first bytes of the answer. Virtual time: nothing here waits for a clock.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_is_left_after_a_while() {
        let router = Router::new().route("/", get(|| async { "more than the pipe holds" }));
        let (mut client, stream) = tokio::io::duplex(64);
        client.write_all(REQUEST).await.unwrap();
        let crowd = Crowd::new(1);
        let guest = crowd.admit().await;
        let serving = serve_guest(stream, router, guest, CancellationToken::new());
        let left = timeout(UNREAD_SECONDS_MAX * 10, serving).await;
        assert!(left.is_ok(), "it waits for its client for ever");
    }
}
