//! Reference B3: an HTTP client and the receiver of the benchmarks, without a dispatcher between
//! them.
//!
//! It sends the same payload, signed, and the receiver checks the signature as it does for the
//! dispatcher. So it shows the limit of HTTP on this machine.

use std::time::Duration;

use chrono::Utc;
use dispatcher::signature::Signer;
use futures_util::future::try_join_all;
use mock_receiver::{Behavior, Journal, Receiver, script};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

use crate::figures::rate;
use crate::load::{PAYLOAD_BYTES, payload};
use crate::stand;

/// Name in the table.
pub const NAME: &str = "HTTP pair, 64 connections";
/// Connections of the client.
const CONNECTIONS: u64 = 64;
/// Id of all messages. The receiver does not compare them.
const MESSAGE_ID: &str = "msg_reference";

/// The client and the receiver.
#[derive(Debug)]
pub struct HttpPair {
    client: reqwest::Client,
    url: String,
    payload: String,
    _receiver: Vec<Receiver>,
}

impl HttpPair {
    /// Starts the receiver.
    ///
    /// # Errors
    /// If no port is free.
    pub async fn open() -> anyhow::Result<Self> {
        let answer = script::always(Behavior::answer(200));
        let receiver = stand::receivers(1, &answer, &Journal::disabled()).await?;
        Ok(Self {
            client: reqwest::Client::builder().no_proxy().build()?,
            url: stand::url(&receiver[0]),
            payload: payload(PAYLOAD_BYTES),
            _receiver: receiver,
        })
    }

    /// Sends about this number of requests over 64 connections and returns the requests per second.
    ///
    /// # Errors
    /// If a request fails or is not accepted.
    pub async fn run(&self, requests: u64) -> anyhow::Result<f64> {
        let (headers, each) = (self.headers()?, requests.div_ceil(CONNECTIONS));
        let began = Instant::now();
        let sending = (0..CONNECTIONS).map(|_| async {
            for _ in 0..each {
                self.send(&headers).await?;
            }
            anyhow::Ok(())
        });
        try_join_all(sending).await?;
        Ok(rate(each * CONNECTIONS, began.elapsed()))
    }

    /// Sends one request and returns the time until its response is complete.
    ///
    /// # Errors
    /// If the request fails or is not accepted.
    pub async fn round_trip(&self) -> anyhow::Result<Duration> {
        let headers = self.headers()?;
        let began = Instant::now();
        self.send(&headers).await?;
        Ok(began.elapsed())
    }

    /// Headers of all requests until the signature is too old, which takes minutes.
    fn headers(&self) -> anyhow::Result<HeaderMap> {
        let now = Utc::now().timestamp();
        let signature =
            Signer::parse(stand::SECRET)?.sign(MESSAGE_ID, now, self.payload.as_bytes());
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in [
            ("webhook-id", MESSAGE_ID),
            ("webhook-timestamp", &now.to_string()),
            ("webhook-signature", &signature),
        ] {
            headers.insert(HeaderName::from_static(name), value.parse()?);
        }
        Ok(headers)
    }

    async fn send(&self, headers: &HeaderMap) -> anyhow::Result<()> {
        let request = self.client.post(&self.url).headers(headers.clone());
        let response = request.body(self.payload.clone()).send().await?;
        let status = response.status();
        // A connection is kept only if its response was read.
        response.bytes().await?;
        anyhow::ensure!(status.is_success(), "the receiver responded {status}");
        Ok(())
    }
}
