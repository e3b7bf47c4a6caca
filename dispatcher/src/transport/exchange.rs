//! One exchange: one request and its response over one connection.
//!
//! The client library gets a connection for one exchange and then returns it. So this module sees
//! every byte that arrives between two exchanges, and no background task owns a connection.

use std::error::Error;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http_body_util::Full;
use hyper::client::conn::http1::{Builder, Connection};
use hyper::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap,
    HeaderName, TRANSFER_ENCODING,
};
use hyper::http::response::Parts;
use hyper::{Request, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio::time::timeout_at;

use super::deadline::Deadline;
use super::error::{chain, describe};
use super::read_response::{ResponseLimits, read_response};
use super::wire::{Silence, Socket, Wire};
use crate::event::{AttemptResult, Outcome};

/// Limits the head of a response. It is also the size of the buffer for the body.
const RESPONSE_HEAD_BYTES_MAX: usize = 64 << 10;
const RESPONSE_HEADERS_MAX: usize = 100;

/// Common servers close an idle connection after 5 s. A shorter time here avoids most requests on a
/// connection that the receiver is about to close.
const IDLE_MAX: Duration = Duration::from_secs(4);

/// Headers that announce content. In a response that cannot have content, they leave doubt about
/// its end.
const CONTENT_HEADERS: [HeaderName; 5] =
    [CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, TRANSFER_ENCODING];

/// The connection after an exchange.
pub(super) enum After {
    /// Usable for another exchange that begins within this time.
    Keep(Socket, Duration),
    /// Not usable: the receiver announced the end, or the response leaves doubt about its end.
    Close,
    /// Not usable: the receiver sent unsolicited bytes, or closed without an announcement.
    Refuse(Silence),
}

/// Sends the request and reads the response until the deadline. `now` returns the time of the
/// database's clock.
pub(super) async fn exchange(
    socket: Socket,
    request: Request<Full<Bytes>>,
    deadline: Deadline,
    limits: ResponseLimits,
    now: impl Fn() -> DateTime<Utc>,
) -> (AttemptResult, After) {
    let used = socket.used;
    let last = request.headers().contains_key(CONNECTION);
    let (mut sender, connection) = Builder::new()
        .max_buf_size(RESPONSE_HEAD_BYTES_MAX)
        .max_headers(RESPONSE_HEADERS_MAX)
        .handshake(TokioIo::new(Wire::new(socket)))
        .await
        .expect("HTTP/1.1 has no handshake that could fail");
    let response = sender.send_request(request);
    let mut reading = pin!(async {
        let (head, body) = response.await?.into_parts();
        let idle_max = idle_max(&head).filter(|_| !last);
        Ok((read_response(&head, body, limits, now).await, idle_max))
    });
    let (mut running, mut ended) = (Some(connection), None);
    let read = poll_fn(|cx| {
        let step = running.as_mut().map(|it| it.poll_without_shutdown(cx));
        if step.is_some_and(|step| step.is_ready()) {
            // A request that the connection has not taken fails when its parts are released.
            ended = running.take().map(Connection::into_parts);
        }
        reading.as_mut().poll(cx)
    });
    let read = timeout_at(deadline.at, read).await;
    let is_idle = running.is_some() && sender.is_ready();
    let parts = running.map(Connection::into_parts).or(ended).expect("a connection runs or ended");
    let wire = parts.io.into_inner();
    let address = wire.address();
    let (mut result, idle_max) = match read {
        Ok(Ok(read)) => read,
        Ok(Err(error)) => (before_response(&error, &wire), None),
        Err(_) => (deadline.exceeded(&wire.phase()), None),
    };
    let after = if wire.unsolicited || !parts.read_buf.is_empty() {
        After::Refuse(Silence::Unsolicited)
    } else if used && result.outcome == Outcome::Reset {
        After::Refuse(Silence::Closed)
    } else {
        after(wire, idle_max, is_idle)
    };
    // The response may belong to the exchange before this one.
    if used && matches!(after, After::Refuse(Silence::Unsolicited)) {
        result = unsolicited(address);
    }
    (result, after)
}

/// Classifies an error of the client library that occurred before the head of the response was
/// complete.
fn before_response(error: &hyper::Error, wire: &Wire) -> AttemptResult {
    if wire.unsolicited {
        return unsolicited(wire.address());
    }
    let outcome = if wire.response_started {
        Outcome::Body
    } else if chain(error).any(<dyn Error>::is::<rustls::Error>) {
        // A server that requires a client certificate reports it only after the handshake has
        // finished on this side.
        Outcome::Tls
    } else {
        Outcome::Reset
    };
    let reason = wire.write_error().map_or_else(|| describe(error), ToString::to_string);
    AttemptResult::failed(outcome, format!("{}: {reason}", wire.phase()))
}

/// Returns the result of an attempt whose response may belong to another exchange.
fn unsolicited(address: SocketAddr) -> AttemptResult {
    let error = format!("{address} sent unsolicited bytes, so its response is not trusted");
    AttemptResult::failed(Outcome::Reset, error)
}

/// Checks a connection after its exchange.
fn after(wire: Wire, idle_max: Option<Duration>, is_idle: bool) -> After {
    let Some(idle_max) = idle_max.filter(|_| wire.is_orderly()) else {
        return After::Close;
    };
    let mut socket = wire.into_socket();
    match socket.silence() {
        Silence::Unbroken if is_idle => After::Keep(socket, idle_max),
        Silence::Unbroken | Silence::Unclear => After::Close,
        broken => After::Refuse(broken),
    }
}

/// Returns the time that a connection may be idle after a response, or `None` if the response
/// announces the end or leaves doubt about its own end.
fn idle_max(head: &Parts) -> Option<Duration> {
    let headers = &head.headers;
    let is_clear = match head.status {
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => {
            !CONTENT_HEADERS.iter().any(|name| headers.contains_key(name))
        }
        status if status.is_informational() || status == StatusCode::RESET_CONTENT => false,
        // With both headers, or with several of one, receivers and proxies disagree about the end.
        _ => {
            let lengths = headers.get_all(CONTENT_LENGTH).iter();
            lengths.chain(headers.get_all(TRANSFER_ENCODING)).count() == 1
        }
    };
    let closes = list(headers, "connection").any(|option| option.eq_ignore_ascii_case("close"));
    let announced = list(headers, "keep-alive").find_map(|option| {
        let seconds = option.strip_prefix("timeout=")?.parse::<u64>().ok()?;
        Some(Duration::from_secs(seconds.saturating_sub(1)))
    });
    (is_clear && !closes && head.version == Version::HTTP_11)
        .then(|| announced.map_or(IDLE_MAX, |announced| announced.min(IDLE_MAX)))
}

/// Iterates over the entries of a header that contains lists.
fn list<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',').map(str::trim))
}
