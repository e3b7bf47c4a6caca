//! `dispatcher healthcheck`: whether a running dispatcher is well. A slim image has no other client to ask with.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// How long a health check waits for its answer.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(3);

/// Asks the dispatcher that runs with the same settings whether it is ready.
///
/// # Errors
/// That it is not, and why.
pub async fn healthcheck(bind: SocketAddr) -> Result<(), String> {
    let ip = match bind.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        named => named,
    };
    let url = format!("http://{}/readyz", SocketAddr::new(ip, bind.port()));
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(HEALTH_TIMEOUT)
        .build();
    let client = client.map_err(|error| error.to_string())?;
    let answer = client
        .get(&url)
        .send()
        .await
        .map_err(|error| format!("{url}: {error}"))?;
    if answer.status().is_success() {
        Ok(())
    } else {
        Err(format!("{url}: {}", answer.status()))
    }
}
