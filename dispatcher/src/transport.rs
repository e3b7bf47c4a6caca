//! One attempt: one signed POST under one deadline, classified as an [`Outcome`].
//!
//! A failure of the receiver is an [`Outcome`], not an error. Local exhaustion is [`NotSent`].
//! The client does not retry, follow redirects or use proxies, so one attempt is one request.
//! This module knows neither the database nor the retry rule.

mod deadline;
mod dial;
mod error;
mod exchange;
mod exhaustion;
mod healthcheck;
mod lookups;
mod pool;
mod read_response;
mod resolve;
#[cfg(test)]
mod tests;
mod trust;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http_body_util::Full;
use hyper::header::{ACCEPT, CONNECTION, CONTENT_TYPE, HOST, USER_AGENT};
use tokio::time::Instant;

use self::deadline::Deadline;
use self::dial::Dialer;
pub use self::error::{NotSent, TransportError};
use self::exchange::{After, exchange};
pub use self::healthcheck::{HealthError, healthcheck};
use self::lookups::Lookups;
use self::pool::{Pool, PoolLimits};
use self::read_response::ResponseLimits;
use crate::config::TransportConfig;
use crate::event::{AttemptResult, EventId, Outcome};
use crate::target::{Destination, TargetError};

const USER_AGENT_VALUE: &str = concat!("webhook-dispatcher/", env!("CARGO_PKG_VERSION"));

/// Servers that respond twice do it within 1 to 2 ms.
const SILENCE: Duration = Duration::from_millis(5);

/// Longer than most pauses after which a server closes a connection or responds again.
const FIRST_SILENCE: Duration = Duration::from_millis(500);

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
#[derive(Clone)]
pub struct HttpTransport {
    dialer: Arc<Dialer>,
    pool: Pool,
    timeout: Duration,
    limits: ResponseLimits,
}

impl HttpTransport {
    /// Loads the certificate authorities. Must be called inside a runtime.
    ///
    /// # Errors
    /// There is no certificate authority to trust.
    pub fn new(config: &TransportConfig) -> Result<Self, TransportError> {
        let tls = trust::client_config(&config.extra_authorities)?;
        Ok(Self {
            dialer: Arc::new(Dialer {
                allowed: config.allowed.clone(),
                lookups: Lookups::default(),
                tls: Arc::new(tls).into(),
            }),
            pool: Pool::new(PoolLimits {
                kept_max: if config.connection_reuse { config.idle_max } else { 0 },
                kept_per_host_max: config.idle_per_host_max,
                silence: SILENCE,
                first_silence: FIRST_SILENCE,
            }),
            timeout: config.timeout,
            limits: ResponseLimits {
                response_bytes_max: config.response_bytes_max,
                snippet_bytes_max: config.snippet_bytes_max,
            },
        })
    }

    /// Sends the request once. If it fails on a kept connection, it is not repeated.
    async fn send(&self, request: Request, to: &Destination) -> Result<AttemptResult, NotSent> {
        let (start, started_at) = (Instant::now(), request.started_at);
        let deadline = Deadline::after(self.timeout);
        let host = to.origin();
        let taken = self.pool.take(&host);
        let socket = match taken.socket {
            Some(socket) => socket,
            None => match self.dialer.dial(to, request.turn(), deadline).await {
                Ok(socket) => socket,
                Err(ended) => return ended,
            },
        };
        let Ok(request) = request.into_http(to, taken.may_keep) else {
            let error = "the target has no valid path";
            return Ok(AttemptResult::failed(Outcome::Connect, error));
        };
        let now = || started_at + start.elapsed();
        let (result, after) = exchange(socket, request, deadline, self.limits, now).await;
        match after {
            After::Keep(socket, idle_max) => self.pool.keep(&host, socket, idle_max),
            After::Close => {}
            After::Refuse(reason) => self.pool.refuse(&host, reason),
        }
        Ok(result)
    }
}

impl Request {
    /// Number of the address with which the attempt begins. It differs between the attempts of an
    /// event, and spreads the first attempts of all events over the addresses.
    fn turn(&self) -> usize {
        let (_, random) = self.id.0.as_u64_pair();
        (random as usize).wrapping_add(self.number as usize)
    }

    /// Sends no `Accept-Encoding`, because the response is not decoded.
    fn into_http(
        self,
        to: &Destination,
        may_keep: bool,
    ) -> Result<hyper::Request<Full<Bytes>>, hyper::http::Error> {
        let mut request = hyper::Request::post(to.path_and_query.as_str())
            .header(HOST, &to.authority)
            .header(ACCEPT, "*/*")
            .header(USER_AGENT, USER_AGENT_VALUE)
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", self.id.to_string())
            .header("webhook-timestamp", self.started_at.timestamp())
            .header("webhook-signature", self.signature)
            .header("webhook-attempt", self.number);
        if !may_keep {
            request = request.header(CONNECTION, "close");
        }
        request.body(Full::new(self.payload))
    }
}

impl Transport for HttpTransport {
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }

    /// The target is checked on each attempt, because the allow list may have changed since the
    /// event was accepted.
    async fn attempt(&self, request: Request) -> Result<AttemptResult, NotSent> {
        match Destination::parse(&request.target_url, &self.dialer.allowed) {
            Ok(to) => self.send(request, &to).await,
            Err(error) => {
                let is_refused = matches!(error, TargetError::Refused(..));
                let outcome = if is_refused { Outcome::TargetRefused } else { Outcome::Connect };
                Ok(AttemptResult::failed(outcome, format!("target {error}")))
            }
        }
    }
}
