//! One attempt: one signed POST under one deadline, classified as an [`Outcome`].
//!
//! A failure of the receiver is an [`Outcome`], not an error. Local exhaustion is [`NotSent`].
//! The client does not retry, follow redirects or use proxies, so one attempt is one request.
//! This module knows neither the database nor the retry rule.

mod classify;
mod dial;
mod error;
mod exhaustion;
mod healthcheck;
mod lookups;
mod read_response;
mod resolve;
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
pub use self::error::{NotSent, TransportError};
pub use self::healthcheck::{HealthError, healthcheck};
use self::read_response::{ResponseLimits, read_response};
use self::resolve::GuardedResolver;
use self::wire::ResponseStarted;
use crate::config::TransportConfig;
use crate::event::{AttemptResult, EventId, Outcome};
use crate::target::{self, AllowList, TargetError};

const USER_AGENT_VALUE: &str = concat!("webhook-dispatcher/", env!("CARGO_PKG_VERSION"));

/// Common servers close an idle connection after 5 s. A shorter time here avoids most requests on a
/// connection that the receiver is about to close.
const IDLE_CONNECTION_MAX: Duration = Duration::from_secs(4);

/// Limits the head of a response. It is also the size of the buffer for the body.
const RESPONSE_HEAD_BYTES_MAX: usize = 64 << 10;
const RESPONSE_HEADERS_MAX: usize = 100;

/// One signed request.
#[derive(Clone, Debug)]
pub struct Request {
    /// Header `webhook-id`.
    pub id: EventId,
    /// Number of the attempt from 1: header `webhook-attempt`.
    pub number: u32,
    /// Start of the attempt by [`Transport::now`]: header `webhook-timestamp`.
    pub started_at: DateTime<Utc>,
    /// Header `webhook-signature`.
    pub signature: String,
    /// URL of the event; validated again on each attempt.
    pub target_url: String,
    /// Stored bytes of the payload, sent unchanged.
    pub payload: Bytes,
}

/// Sends attempts. Two implementations: [`HttpTransport`] and that of the simulation.
pub trait Transport: Clone + Send + Sync + 'static {
    /// Returns the clock of this process. Receivers compare signed timestamps with their clocks,
    /// so the clock of the database decides nothing here.
    fn now(&self) -> DateTime<Utc>;

    /// Sends one request and returns its result within the deadline.
    ///
    /// # Errors
    /// Nothing was sent because of local exhaustion.
    fn attempt(
        &self,
        request: Request,
    ) -> impl Future<Output = Result<AttemptResult, NotSent>> + Send;
}

/// Transport over sockets.
#[derive(Clone, Debug)]
pub struct HttpTransport {
    client: Client<Dialer, Full<Bytes>>,
    timeout: Duration,
    limits: ResponseLimits,
    allowed: Arc<AllowList>,
}

impl HttpTransport {
    /// Loads the certificate authorities and creates the client.
    ///
    /// # Errors
    /// There is no certificate authority to trust.
    pub fn new(config: &TransportConfig) -> Result<Self, TransportError> {
        let allowed = Arc::new(config.allowed.clone());
        let tls = trust::client_config(&config.extra_authorities)?;
        let dialer = Dialer::new(GuardedResolver::new(Arc::clone(&allowed)), Arc::new(tls));
        // The client repeats a request only if its pooled connection ended before the first byte
        // was written. Nothing was sent then, so one attempt is still one request.
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_CONNECTION_MAX)
            .pool_max_idle_per_host(config.idle_per_host_max)
            .http1_max_buf_size(RESPONSE_HEAD_BYTES_MAX)
            .http1_max_headers(RESPONSE_HEADERS_MAX)
            .build(dialer);
        Ok(Self {
            client,
            timeout: config.timeout,
            limits: ResponseLimits {
                response_bytes_max: config.response_bytes_max,
                snippet_bytes_max: config.snippet_bytes_max,
            },
            allowed,
        })
    }

    async fn exchange(&self, request: Request) -> Result<AttemptResult, NotSent> {
        let start = Instant::now();
        let started_at = request.started_at;
        // The resolver does not see literal addresses, so they are checked here, on each attempt.
        // The allow list may have changed since the event was accepted.
        let target = match target::parse_url(&request.target_url, &self.allowed) {
            Ok(url) => url.as_str().parse::<Uri>(),
            Err(refused @ TargetError::Refused(..)) => {
                return Ok(AttemptResult::failed(
                    Outcome::TargetRefused,
                    format!("target {refused}"),
                ));
            }
            Err(invalid) => {
                return Ok(AttemptResult::failed(
                    Outcome::Connect,
                    format!("target {invalid}"),
                ));
            }
        };
        let mut request = match target {
            Ok(target) => request.into_http(target),
            Err(invalid) => {
                return Ok(AttemptResult::failed(
                    Outcome::Connect,
                    format!("target {invalid}"),
                ));
            }
        };
        let connection = capture_connection(&mut request);
        match self.client.request(request).await {
            Ok(response) => {
                Ok(read_response(response, self.limits, || started_at + start.elapsed()).await)
            }
            Err(error) => classify::before_response(&error, response_started(&connection)),
        }
    }
}

impl Request {
    /// Sends no `Accept-Encoding`, because the response is not decoded.
    fn into_http(self, target: Uri) -> hyper::Request<Full<Bytes>> {
        hyper::Request::post(target)
            .header(ACCEPT, "*/*")
            .header(USER_AGENT, USER_AGENT_VALUE)
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", self.id.to_string())
            .header("webhook-timestamp", self.started_at.timestamp())
            .header("webhook-signature", self.signature)
            .header("webhook-attempt", self.number)
            .body(Full::new(self.payload))
            .expect("UUIDs, numbers and base64 are valid header values")
    }
}

/// Returns true if a response had started on the connection of the request.
fn response_started(connection: &CaptureConnection) -> bool {
    let mut extensions = Extensions::new();
    if let Some(connected) = connection.connection_metadata().as_ref() {
        connected.get_extras(&mut extensions);
    }
    extensions.get().is_some_and(ResponseStarted::get)
}

impl Transport for HttpTransport {
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }

    async fn attempt(&self, request: Request) -> Result<AttemptResult, NotSent> {
        match timeout(self.timeout, self.exchange(request)).await {
            Ok(result) => result,
            Err(_) => Ok(AttemptResult::failed(
                Outcome::Timeout,
                format!(
                    "no complete response within HTTP_TIMEOUT={} s",
                    self.timeout.as_secs_f64()
                ),
            )),
        }
    }
}
