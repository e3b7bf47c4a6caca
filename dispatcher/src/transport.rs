//! One attempt: one signed POST under one total deadline, and what the wire said about it.
//!
//! A receiver's fault is an [`Outcome`], never an error; a shortage of this machine's is [`NotSent`]. The client's own retries, redirects and proxies are off: one
//! attempt is one request. Nothing here knows the database or the retry rule.

mod classify;
mod dial;
mod healthcheck;
mod lookups;
mod read_answer;
mod resolve;
mod shortage;
mod trust;
mod wire;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http_body_util::Full;
use hyper::Uri;
use hyper::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use hyper::http::Extensions;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{Instant, timeout};

use self::dial::Dialer;
pub use self::healthcheck::healthcheck;
use self::read_answer::{AnswerLimits, read_answer};
use self::resolve::GuardedResolver;
pub use self::shortage::NotSent;
use self::wire::Heard;
use crate::config::TransportConfig;
use crate::event::{AttemptResult, EventId, Outcome};
use crate::target::{self, AllowList, TargetError};

/// How receivers see us.
const OUR_NAME: &str = concat!("webhook-dispatcher/", env!("CARGO_PKG_VERSION"));

/// How long an idle connection to a receiver is kept: shorter than the 5 s after which common servers close theirs, so that
/// a request rarely meets a close that is on its way.
const IDLE_CONNECTION_MAX: Duration = Duration::from_secs(4);

/// The head of an answer may be this long, and have so many headers; the rest is read in pieces of this size.
const ANSWER_HEAD_BYTES_MAX: usize = 64 << 10;
const ANSWER_HEADERS_MAX: usize = 100;

/// One signed request, ready to be sent.
#[derive(Clone, Debug)]
pub struct Request {
    /// The event: `webhook-id`.
    pub id: EventId,
    /// The attempt: `webhook-attempt`.
    pub number: u32,
    /// When it begins, on the database's clock: `webhook-timestamp`.
    pub started_at: DateTime<Utc>,
    /// `webhook-signature`.
    pub signature: String,
    /// Where it goes.
    pub target_url: String,
    /// The exact bytes.
    pub payload: Bytes,
}

/// What can make an attempt: the network, or a simulation of it.
pub trait Transport: Clone + Send + Sync + 'static {
    /// Makes one attempt and tells what the wire said, within the deadline; or that nothing could be sent from here.
    fn attempt(
        &self,
        request: Request,
    ) -> impl Future<Output = Result<AttemptResult, NotSent>> + Send;
}

/// The transport over real sockets.
#[derive(Clone, Debug)]
pub struct HttpTransport {
    client: Client<Dialer, Full<Bytes>>,
    timeout: Duration,
    limits: AnswerLimits,
    allowed: Arc<AllowList>,
}

/// Why the transport cannot be set up: no target's certificate could ever be checked.
#[derive(Debug, thiserror::Error)]
#[error("no authority to trust: neither system roots are installed nor is EXTRA_CA_FILE set")]
pub struct TransportError;

impl HttpTransport {
    /// A transport with the given limits.
    ///
    /// # Errors
    /// Nobody is trusted.
    pub fn new(config: &TransportConfig) -> Result<Self, TransportError> {
        let allowed = Arc::new(config.allowed.clone());
        let tls = trust::client_config(&config.extra_authorities)?;
        let dialer = Dialer::new(GuardedResolver::new(Arc::clone(&allowed)), Arc::new(tls));
        // The client repeats a request by itself only if the connection it was meant for had ended before the first byte
        // was written: nothing was sent, so one attempt remains one request.
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_CONNECTION_MAX)
            .pool_max_idle_per_host(config.idle_per_host_max)
            .http1_max_buf_size(ANSWER_HEAD_BYTES_MAX)
            .http1_max_headers(ANSWER_HEADERS_MAX)
            .build(dialer);
        Ok(Self {
            client,
            timeout: config.timeout,
            limits: AnswerLimits {
                response_bytes_max: config.response_bytes_max,
                snippet_bytes_max: config.snippet_bytes_max,
            },
            allowed,
        })
    }

    async fn exchange(&self, request: Request) -> Result<AttemptResult, NotSent> {
        let began = Instant::now();
        let started_at = request.started_at;
        // A literal address never reaches the resolver, so it is looked at here, on each attempt: the allow-list may be
        // narrower than when the event was accepted.
        let target = match target::parse_url(&request.target_url, &self.allowed) {
            Ok(url) => url.as_str().parse::<Uri>(),
            Err(refused @ TargetError::Refused(..)) => {
                return Ok(AttemptResult::failed(
                    Outcome::TargetRefused,
                    format!("target {refused}"),
                ));
            }
            Err(broken) => {
                return Ok(AttemptResult::failed(
                    Outcome::Connect,
                    format!("target {broken}"),
                ));
            }
        };
        let mut request = match target {
            Ok(target) => request.for_the_wire(target),
            Err(broken) => {
                return Ok(AttemptResult::failed(
                    Outcome::Connect,
                    format!("target {broken}"),
                ));
            }
        };
        let connection = capture_connection(&mut request);
        match self.client.request(request).await {
            Ok(response) => {
                Ok(read_answer(response, self.limits, || started_at + began.elapsed()).await)
            }
            Err(error) => classify::before_answer(&error, heard_anything(&connection)),
        }
    }
}

impl Request {
    /// The one POST that it is. No encoding is offered: nothing would be decoded.
    fn for_the_wire(self, target: Uri) -> hyper::Request<Full<Bytes>> {
        hyper::Request::post(target)
            .header(ACCEPT, "*/*")
            .header(USER_AGENT, OUR_NAME)
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", self.id.to_string())
            .header("webhook-timestamp", self.started_at.timestamp())
            .header("webhook-signature", self.signature)
            .header("webhook-attempt", self.number)
            .body(Full::new(self.payload))
            .expect("ids, numbers and base64 can stand in headers")
    }
}

/// Whether the connection that a request went over, if there was one, has brought a byte of an answer.
fn heard_anything(connection: &CaptureConnection) -> bool {
    let mut extras = Extensions::new();
    if let Some(connected) = connection.connection_metadata().as_ref() {
        connected.get_extras(&mut extras);
    }
    extras.get().is_some_and(Heard::anything)
}

impl Transport for HttpTransport {
    async fn attempt(&self, request: Request) -> Result<AttemptResult, NotSent> {
        match timeout(self.timeout, self.exchange(request)).await {
            Ok(answer) => answer,
            Err(_) => Ok(AttemptResult::failed(
                Outcome::Timeout,
                format!("no whole answer within {} s", self.timeout.as_secs_f64()),
            )),
        }
    }
}
