//! The links of a run: if the plan needs them, one proxy on each link between the parts.
//!
//! The connections of the harness (readiness, audit, final counts) and those of the section at
//! default settings do not use proxies. A link that no proxy can carry keeps the reason.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};

use url::Url;

use crate::fault::Link;
use crate::proxy::{Control, Protocol, Proxy};

/// The port of a database whose URL names none.
const POSTGRES_PORT: u16 = 5432;

/// The reason why a proxy cannot be put on a link.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The address of the server cannot be read from the URL.
    #[error("{0}")]
    Url(String),
    /// No local port is free.
    #[error("no local port for a proxy")]
    Port(#[from] io::Error),
}

/// Starts a proxy to the database of a URL. Returns the proxy and the URL that leads through it.
///
/// # Errors
/// The database is not reached by TCP, or no local port is free.
pub fn to_database(url: &str) -> Result<(Proxy, String), LinkError> {
    let upstream = server_of(url)?;
    let proxy = Proxy::start(upstream, Protocol::Postgres)?;
    let mut over = parsed(url)?;
    let address = proxy.address();
    let moved = over.set_ip_host(address.ip());
    moved
        .and_then(|()| over.set_port(Some(address.port())))
        .expect("a URL with a host accepts another host");
    Ok((proxy, over.into()))
}

/// The address of the server of a URL.
///
/// # Errors
/// The server is not reached by TCP, or its name does not resolve.
pub fn server_of(url: &str) -> Result<SocketAddr, LinkError> {
    let parsed = parsed(url)?;
    // The parameter overrides the authority, and may name a directory.
    let has_host_parameter = parsed.query_pairs().any(|(name, _)| name.starts_with("host"));
    let host = parsed.host_str().filter(|_| !has_host_parameter);
    let no_host = || LinkError::Url("its URL has no host to connect to by TCP".into());
    let host = host.ok_or_else(no_host)?.trim_matches(['[', ']']);
    let not_found = |why: String| LinkError::Url(format!("{host} does not resolve: {why}"));
    let addresses = (host, parsed.port().unwrap_or(POSTGRES_PORT)).to_socket_addrs();
    let mut addresses = addresses.map_err(|error| not_found(error.to_string()))?;
    addresses.next().ok_or_else(|| not_found("it has no address".into()))
}

fn parsed(url: &str) -> Result<Url, LinkError> {
    Url::parse(url).map_err(|error| LinkError::Url(format!("its URL cannot be read: {error}")))
}

/// The proxies of a run.
#[derive(Debug, Default)]
pub struct Links {
    wanted: bool,
    links: BTreeMap<Link, Result<Proxy, String>>,
}

impl Links {
    /// No links yet. If `wanted` is false, no proxy is ever started.
    #[must_use]
    pub fn new(wanted: bool) -> Links {
        let links = BTreeMap::new();
        Links { wanted, links }
    }

    /// Puts a proxy on a link to an address. Returns the address to connect to.
    ///
    /// # Errors
    /// No local port is free.
    pub fn lead(&mut self, link: Link, upstream: SocketAddr) -> io::Result<SocketAddr> {
        if !self.wanted {
            return Ok(upstream);
        }
        let proxy = Proxy::start(upstream, Protocol::Bytes)?;
        let address = proxy.address();
        self.links.insert(link, Ok(proxy));
        Ok(address)
    }

    /// Puts a proxy on a link to the database of a URL. Returns the URL to connect to, which is the
    /// same if the database is not reached by TCP.
    ///
    /// # Errors
    /// No local port is free.
    pub fn lead_to_database(&mut self, link: Link, url: &str) -> io::Result<String> {
        if !self.wanted {
            return Ok(url.to_owned());
        }
        let (proxy, url) = match to_database(url) {
            Ok((proxy, over)) => (Ok(proxy), over),
            Err(LinkError::Port(error)) => return Err(error),
            Err(error @ LinkError::Url(_)) => (Err(error.to_string()), url.to_owned()),
        };
        self.links.insert(link, proxy);
        Ok(url)
    }

    /// The proxy of a link.
    ///
    /// # Errors
    /// Returns the reason if the link has no proxy.
    pub fn link(&self, link: Link) -> Result<&Proxy, String> {
        match self.links.get(&link) {
            Some(Ok(proxy)) => Ok(proxy),
            Some(Err(why)) => Err(format!("{link} has no proxy: {why}")),
            None => Err(format!("{link} has no proxy in this run")),
        }
    }

    /// Ends every control on a link. Has no effect on a link without a proxy.
    pub fn heal(&self, link: Link) {
        if let Ok(proxy) = self.link(link) {
            proxy.set(Control::Pass);
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[tokio::test]
    async fn proxy_replaces_only_host_and_port_of_a_database_url() {
        let mut links = Links::new(true);
        let url = "postgresql://me:s%40crit@localhost:6543/events?application_name=x";
        let over = links.lead_to_database(Link::ToPostgres(0), url).unwrap();
        let address = links.link(Link::ToPostgres(0)).unwrap().address();
        let wanted = format!("postgresql://me:s%40crit@{address}/events?application_name=x");
        assert_eq!(over, wanted);
    }

    #[tokio::test]
    async fn database_on_a_socket_has_no_proxy() {
        let mut links = Links::new(true);
        let url = "postgresql:///events?host=/var/run/postgresql";
        assert_eq!(links.lead_to_database(Link::ToPostgres(0), url).unwrap(), url);
        let why = links.link(Link::ToPostgres(0)).unwrap_err();
        assert!(why.contains("no host to connect to by TCP"), "{why}");
    }

    #[test]
    fn plan_without_link_faults_has_no_proxy() {
        let mut links = Links::new(false);
        let address = "127.0.0.1:9".parse().unwrap();
        assert_eq!(links.lead(Link::ToApi(0), address).unwrap(), address);
        assert!(links.link(Link::ToApi(0)).is_err());
    }
}
