//! One attempt: one signed POST under one total deadline, and what the wire said about it.
//!
//! A receiver's fault is an [`Outcome`], never an error. The client's own retries, redirects and proxies are off: one
//! attempt is one request. Nothing here knows the database or the retry rule.

mod classify;
mod healthcheck;
mod read_answer;
mod resolve;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Certificate, Client};
use tokio::time::{Instant, timeout};

pub use self::healthcheck::healthcheck;
use self::read_answer::{AnswerLimits, read_answer};
use self::resolve::GuardedResolver;
use crate::config::TransportConfig;
use crate::event::{Answer, EventId, Outcome};
use crate::target::{self, AllowList, TargetError};

/// How receivers see us.
const USER_AGENT: &str = concat!("webhook-dispatcher/", env!("CARGO_PKG_VERSION"));

/// How long an idle connection to a receiver is kept.
const IDLE_CONNECTION_SECONDS_MAX: Duration = Duration::from_secs(30);

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
    /// Makes one attempt and tells what the wire said, within the deadline.
    fn attempt(&self, request: Request) -> impl Future<Output = Answer> + Send;
}

/// The transport over real sockets.
#[derive(Clone, Debug)]
pub struct HttpTransport {
    client: Client,
    timeout: Duration,
    limits: AnswerLimits,
    allowed: Arc<AllowList>,
}

/// Why the transport cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("setting up the HTTP client (is EXTRA_CA_FILE a PEM file, are system roots installed?)")]
pub struct TransportError(#[from] reqwest::Error);

impl HttpTransport {
    /// A transport with the given limits.
    ///
    /// # Errors
    /// Certificates that cannot be used.
    pub fn new(config: &TransportConfig) -> Result<Self, TransportError> {
        let allowed = Arc::new(config.allowed.clone());
        let mut client = Client::builder()
            .user_agent(USER_AGENT)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .tcp_nodelay(true)
            .pool_idle_timeout(IDLE_CONNECTION_SECONDS_MAX)
            .pool_max_idle_per_host(config.idle_per_host_max)
            .dns_resolver(GuardedResolver::new(Arc::clone(&allowed)));
        if let Some(pem) = &config.extra_ca_pem {
            client = client.tls_certs_merge(Certificate::from_pem_bundle(pem)?);
        }
        Ok(Self {
            client: client.build()?,
            timeout: config.timeout,
            limits: AnswerLimits {
                response_bytes_max: config.response_bytes_max,
                snippet_bytes_max: config.snippet_bytes_max,
            },
            allowed,
        })
    }

    async fn exchange(&self, request: Request) -> Answer {
        let began = Instant::now();
        // A literal address never reaches the resolver, so it is looked at here, on each attempt: the allow-list may be
        // narrower than when the event was accepted.
        let url = match target::parse_url(&request.target_url, &self.allowed) {
            Ok(url) => url,
            Err(refused @ TargetError::Refused(..)) => {
                return Answer::failed(Outcome::TargetRefused, format!("target {refused}"));
            }
            Err(broken) => return Answer::failed(Outcome::Connect, format!("target {broken}")),
        };
        let over_tls = url.scheme() == "https";
        let sent = self
            .client
            .post(url)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header("webhook-id", request.id.to_string())
            .header("webhook-timestamp", request.started_at.timestamp())
            .header("webhook-signature", request.signature)
            .header("webhook-attempt", request.number)
            .body(request.payload)
            .send()
            .await;
        match sent {
            Ok(response) => {
                let now = || request.started_at + began.elapsed();
                read_answer(response, self.limits, now).await
            }
            Err(error) => classify::before_answer(&error, over_tls),
        }
    }
}

impl Transport for HttpTransport {
    async fn attempt(&self, request: Request) -> Answer {
        match timeout(self.timeout, self.exchange(request)).await {
            Ok(answer) => answer,
            Err(_) => Answer::failed(
                Outcome::Timeout,
                format!("no whole answer within {} s", self.timeout.as_secs_f64()),
            ),
        }
    }
}
