//! HTTP server: limits the number of clients, the size of heads and the slowness of clients, and
//! completes active requests before it stops.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::HeaderValue;
use axum::http::header::CONNECTION;
use axum::response::Response;
use hyper::Request;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy, sink};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutStream;
use tokio_util::io::InspectReader;
use tokio_util::sync::CancellationToken;

use super::connections::{Connection, ConnectionLimiter};

/// Time limit for the head of a request. It includes the idle time before the request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Maximum size of the head of a request. It is also the size of the read buffer of a connection,
/// so it limits the memory that clients without a key can use.
const HEAD_BYTES_MAX: usize = 32 << 10;

/// Time limit for one write. Without it, a client that sends requests and does not read the
/// responses would keep its connection forever.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Time limit for reading and discarding before a connection is closed.
const LINGER_MAX: Duration = Duration::from_secs(1);

/// Time limit for active requests after the stop signal, if `SHUTDOWN_SECONDS` is not shorter.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause after a failed accept, for example if no file descriptor was free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop`. Then it accepts no connection and completes active requests, for at most
/// `stop_timeout`. `requests_max` is the limit of [`ConnectionLimiter`].
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    requests_max: u32,
    stop: CancellationToken,
    stop_timeout: Duration,
) {
    let limiter = ConnectionLimiter::new(requests_max);
    // Accepts first, so that no connection is closed before the next client has connected.
    let accept = async || {
        let (stream, _) = listener.accept().await?;
        Ok::<_, std::io::Error>((stream, limiter.admit().await))
    };
    let mut is_failing = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = accept() => accepted,
        };
        match accepted {
            Ok((stream, connection)) => {
                is_failing = false;
                // Responses are small. With Nagle's algorithm they would wait for an
                // acknowledgement.
                let _ = stream.set_nodelay(true);
                tokio::spawn(serve_connection(stream, router.clone(), connection, stop.clone()));
            }
            Err(error) => {
                if !is_failing {
                    tracing::warn!(
                        %error,
                        "accepting connections failed, new clients wait; \
                         if file descriptors are exhausted, raise `ulimit -n`"
                    );
                }
                is_failing = true;
                // This frees a descriptor if clients use too many of them.
                limiter.close_longest_idle();
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    if timeout(STOP_TIMEOUT.min(stop_timeout), limiter.all_closed()).await.is_err() {
        tracing::warn!("time limit of the stop reached, active requests end with the process");
    }
}

async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Send + 'static,
    router: Router,
    connection: Arc<Connection>,
    stop: CancellationToken,
) {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    let stream = InspectReader::new(Box::pin(stream), |bytes: &[u8]| {
        if !bytes.is_empty() {
            connection.received();
        }
    });
    let router = TowerToHyperService::new(router);
    let service = service_fn(|mut request: Request<Incoming>| {
        connection.start_request(!request.body().is_end_stream());
        request.extensions_mut().insert(Arc::clone(&connection));
        let response = router.call(request);
        let connection = &connection;
        Box::pin(async move {
            let mut response: Response = response.await?;
            if connection.may_have_unread_bytes() {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
            }
            Ok::<_, Infallible>(response)
        })
    });
    let mut serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    // Errors of a connection are not logged: the client causes them and sees them.
    tokio::select! {
        biased;
        _ = poll_fn(|cx| serving.poll_without_shutdown(cx)) => {
            let ending = end(serving.into_parts().io.into_inner(), &connection);
            tokio::select! {
                biased;
                () = ending => {}
                () = connection.must_close.cancelled() => {}
            }
            return;
        }
        () = stop.cancelled() => {}
        () = connection.must_close.cancelled() => {
            if !connection.is_active() {
                return;
            }
        }
    }
    Pin::new(&mut serving).graceful_shutdown();
    let _ = poll_fn(|cx| serving.poll_without_shutdown(cx)).await;
    end(serving.into_parts().io.into_inner(), &connection).await;
}

/// Ends the sending side. If the client may still be sending, then reads and discards for a short
/// time. Otherwise the kernel would send a reset, and the client may lose the response that was
/// sent before (RFC 9112, section 9.6).
async fn end(mut stream: impl AsyncRead + AsyncWrite + Unpin, connection: &Connection) {
    if stream.shutdown().await.is_ok() && connection.may_have_unread_bytes() {
        let _ = timeout(LINGER_MAX, copy(&mut stream, &mut sink())).await;
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::net::SocketAddr;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, duplex};
    use tokio::net::TcpStream;
    use tokio::sync::Notify;
    use tokio::time::Instant;

    use super::*;
    use crate::api::connections::{OPERATIONS_CONNECTIONS, with_place};

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

    /// A server with a limit of two requests, whose handler waits for the test.
    struct Server {
        address: SocketAddr,
        request_started: Arc<Notify>,
        may_respond: Arc<Notify>,
    }

    impl Server {
        async fn start() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let server = Self {
                address: listener.local_addr().unwrap(),
                request_started: Arc::default(),
                may_respond: Arc::default(),
            };
            let (started, may_respond) =
                (server.request_started.clone(), server.may_respond.clone());
            let handler = || async move {
                started.notify_one();
                may_respond.notified().await;
            };
            let router = Router::new()
                .route("/", get(handler))
                .route_layer(axum::middleware::from_fn(with_place))
                .route("/livez", get(|| async {}));
            tokio::spawn(serve(listener, router, 2, CancellationToken::new(), STOP_TIMEOUT));
            server
        }

        /// Sends one request and does not read the response.
        async fn send(&self) -> TcpStream {
            send(self.address).await
        }
    }

    async fn send(address: SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(REQUEST).await.unwrap();
        stream
    }

    async fn assert_response(stream: &mut TcpStream) {
        let mut head = [0; 15];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200 OK");
    }

    // Each head is incomplete, so the next client is served only if the first of them is closed.
    #[tokio::test]
    async fn idle_connection_is_closed_for_the_next_client() {
        let server = Server::start().await;
        let mut active = server.send().await;
        server.request_started.notified().await;
        let mut slow = Vec::new();
        for _ in 0..=OPERATIONS_CONNECTIONS {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            stream.write_all(&REQUEST[..9]).await.unwrap();
            slow.push(stream);
        }
        let mut next = server.send().await;
        let ended = slow[0].read(&mut [0]).await;
        assert!(matches!(ended, Ok(0) | Err(_)), "the longest idle connection is closed");
        server.request_started.notified().await;
        server.may_respond.notify_waiters();
        assert_response(&mut active).await;
        assert_response(&mut next).await;
    }

    #[tokio::test]
    async fn health_is_served_while_all_places_are_taken() {
        let server = Server::start().await;
        let mut active = Vec::new();
        for _ in 0..2 {
            active.push(server.send().await);
            server.request_started.notified().await;
        }
        let _waits_for_a_place = server.send().await;
        let mut health = TcpStream::connect(server.address).await.unwrap();
        let request = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n";
        health.write_all(request).await.unwrap();
        assert_response(&mut health).await;
        server.may_respond.notify_waiters();
        for stream in &mut active {
            assert_response(stream).await;
        }
    }

    // Both places are taken, so the third request waits and no response is cut off.
    #[tokio::test]
    async fn active_requests_complete_before_the_next_client_is_served() {
        let server = Server::start().await;
        let mut first = server.send().await;
        server.request_started.notified().await;
        let mut second = server.send().await;
        server.request_started.notified().await;
        let mut third = server.send().await;
        server.may_respond.notify_waiters();
        assert_response(&mut first).await;
        assert_response(&mut second).await;
        server.request_started.notified().await;
        server.may_respond.notify_waiters();
        assert_response(&mut third).await;
    }

    // The handler never responds. After the stop signal the time is virtual.
    #[tokio::test]
    async fn stop_waits_for_active_requests_until_its_time_limit() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let request_started = Arc::<Notify>::default();
        let started = Arc::clone(&request_started);
        let handler = || async move {
            started.notify_one();
            std::future::pending::<()>().await;
        };
        let router = Router::new().route("/", get(handler));
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, router, 2, stop.clone(), STOP_TIMEOUT / 2));
        let _client = send(address).await;
        request_started.notified().await;
        tokio::time::pause();
        let since = Instant::now();
        stop.cancel();
        serving.await.unwrap();
        assert_eq!(since.elapsed().as_secs(), (STOP_TIMEOUT / 2).as_secs());
    }

    // The pipe is full after the first bytes of the response. The time is virtual.
    #[tokio::test(start_paused = true)]
    async fn connection_ends_if_the_client_does_not_read() {
        let router = Router::new().route("/", get(|| async { "longer than the pipe" }));
        let (mut client, stream) = duplex(64);
        client.write_all(REQUEST).await.unwrap();
        let connection = ConnectionLimiter::new(1).admit().await;
        let serving = serve_connection(stream, router, connection, CancellationToken::new());
        let ended = timeout(WRITE_TIMEOUT * 10, serving).await;
        assert!(ended.is_ok(), "the connection is still open");
    }

    // The client sends more than the pipe holds. It can do so only while the server reads.
    #[tokio::test(start_paused = true)]
    async fn unread_bytes_are_discarded_until_the_client_ends() {
        let (mut client, server) = duplex(64);
        let connection = ConnectionLimiter::new(1).admit().await;
        connection.received();
        let sending = async {
            client.write_all(&[b'x'; 1 << 20]).await.unwrap();
            client.shutdown().await.unwrap();
        };
        let since = Instant::now();
        tokio::join!(end(server, &connection), sending);
        assert!(since.elapsed().is_zero(), "the client had ended");
    }

    #[tokio::test(start_paused = true)]
    async fn endless_client_is_read_for_one_second() {
        let (mut client, server) = duplex(64);
        let connection = ConnectionLimiter::new(1).admit().await;
        connection.received();
        let endless = async {
            loop {
                client.write_all(b"x").await.unwrap();
                sleep(LINGER_MAX / 10).await;
            }
        };
        let since = Instant::now();
        tokio::select! {
            () = end(server, &connection) => {}
            () = endless => {}
        }
        assert_eq!(since.elapsed(), LINGER_MAX);
    }

    // Otherwise a stop would wait for each idle client.
    #[tokio::test(start_paused = true)]
    async fn idle_connection_does_not_linger() {
        let (_client, server) = duplex(64);
        let connection = ConnectionLimiter::new(1).admit().await;
        let since = Instant::now();
        end(server, &connection).await;
        assert!(since.elapsed().is_zero());
    }
}
