//! `dispatcher healthcheck`: requests `/readyz` of a running dispatcher. A slim container image has
//! no other HTTP client.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::{StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::time::timeout;

use super::error::describe;

/// The health check of the container image allows as much.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(3);

/// Reason why a dispatcher is not healthy.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// No response arrived.
    #[error("GET {url}: {reason}: is `dispatcher` running with this BIND?")]
    NoResponse {
        /// Address that was requested.
        url: String,
        /// Text of the innermost error.
        reason: String,
    },
    /// The dispatcher runs and is not ready, mostly because the database is unreachable.
    #[error("GET {url} returned {status}: request it to see the reason")]
    NotReady {
        /// Address that was requested.
        url: String,
        /// 503 if the database or its schema is not ready.
        status: StatusCode,
    },
}

/// Returns `Ok` if the dispatcher that listens on `bind` is ready.
///
/// # Errors
/// The dispatcher does not respond or is not ready.
pub async fn healthcheck(bind: SocketAddr) -> Result<(), HealthError> {
    let url = format!("http://{}/readyz", reachable(bind));
    let no_response = |reason: String| HealthError::NoResponse { url: url.clone(), reason };
    let uri = url.parse::<Uri>().map_err(|error| no_response(error.to_string()))?;
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let response = timeout(HEALTH_TIMEOUT, client.get(uri))
        .await
        .map_err(|_| no_response(format!("no response within {} s", HEALTH_TIMEOUT.as_secs())))?
        .map_err(|error| no_response(describe(&error)))?;
    match response.status() {
        status if status.is_success() => Ok(()),
        status => Err(HealthError::NotReady { url, status }),
    }
}

/// Returns loopback for a server that listens on all addresses.
fn reachable(bind: SocketAddr) -> SocketAddr {
    let ip = match bind.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        named => named,
    };
    SocketAddr::new(ip, bind.port())
}
