//! The links of a run: one proxy on each way between the parts, by its name, when the plan does
//! something to links.
//!
//! `w0->pg` leads a worker to its database, `client->w0` the clients to its API, `workers->r0` the
//! workers to a receiver. The harness's own ways (readiness, audit, final counts) and those of the
//! section at default settings stay direct. A way that no proxy can carry says why.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};

use url::Url;

use crate::fault::Link;
use crate::proxy::{Control, Protocol, Proxy};

/// The port of a database whose URL names none.
const POSTGRES_PORT: u16 = 5432;

/// Why a way has no link.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Where it leads cannot be told from the URL.
    #[error("{0}")]
    Url(String),
    /// No port can be had.
    #[error("no port can be had")]
    Port(#[from] io::Error),
}

/// A link to the database of a URL, and the URL that leads over it.
///
/// # Errors
/// When the database is not on TCP, or no port can be had.
pub fn to_database(url: &str) -> Result<(Proxy, String), LinkError> {
    let upstream = server_of(url)?;
    let proxy = Proxy::start(upstream, Protocol::Postgres)?;
    let mut over = parsed(url)?;
    let address = proxy.address();
    let moved = over.set_ip_host(address.ip());
    moved
        .and_then(|()| over.set_port(Some(address.port())))
        .expect("a URL with a host takes another one");
    Ok((proxy, over.into()))
}

/// The address of the server of a URL.
///
/// # Errors
/// When it is not on TCP.
pub fn server_of(url: &str) -> Result<SocketAddr, LinkError> {
    let parsed = parsed(url)?;
    // The parameter wins over the authority, and may name a directory.
    let elsewhere = parsed
        .query_pairs()
        .any(|(name, _)| name.starts_with("host"));
    let host = parsed.host_str().filter(|_| !elsewhere);
    let no_host = || LinkError::Url("its URL names no host to connect to by TCP".into());
    let host = host.ok_or_else(no_host)?.trim_matches(['[', ']']);
    let not_found = |why: String| LinkError::Url(format!("{host} is not found: {why}"));
    let addresses = (host, parsed.port().unwrap_or(POSTGRES_PORT)).to_socket_addrs();
    let mut addresses = addresses.map_err(|error| not_found(error.to_string()))?;
    addresses
        .next()
        .ok_or_else(|| not_found("it has no address".into()))
}

fn parsed(url: &str) -> Result<Url, LinkError> {
    Url::parse(url).map_err(|error| LinkError::Url(format!("its URL cannot be read: {error}")))
}

/// The links of a run, by name.
#[derive(Debug, Default)]
pub struct Links {
    wanted: bool,
    links: BTreeMap<Link, Result<Proxy, String>>,
}

impl Links {
    /// Proxies are put in between only where they are wanted.
    #[must_use]
    pub fn new(wanted: bool) -> Links {
        let links = BTreeMap::new();
        Links { wanted, links }
    }

    /// Leads to an address over a link of this name: gives the address to use instead.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn lead(&mut self, link: Link, upstream: SocketAddr) -> io::Result<SocketAddr> {
        if !self.wanted {
            return Ok(upstream);
        }
        let proxy = Proxy::start(upstream, Protocol::Bytes)?;
        let address = proxy.address();
        self.links.insert(link, Ok(proxy));
        Ok(address)
    }

    /// Leads to the database of a URL: gives the URL to use instead. A database that is not on TCP has
    /// no link.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn lead_to_database(&mut self, name: Link, url: &str) -> io::Result<String> {
        if !self.wanted {
            return Ok(url.to_owned());
        }
        let (link, url) = match to_database(url) {
            Ok((proxy, over)) => (Ok(proxy), over),
            Err(LinkError::Port(error)) => return Err(error),
            Err(error @ LinkError::Url(_)) => (Err(error.to_string()), url.to_owned()),
        };
        self.links.insert(name, link);
        Ok(url)
    }

    /// The link of a name.
    ///
    /// # Errors
    /// Why there is none.
    pub fn link(&self, name: Link) -> Result<&Proxy, String> {
        match self.links.get(&name) {
            Some(Ok(proxy)) => Ok(proxy),
            Some(Err(why)) => Err(format!("there is no link {name}: {why}")),
            None => Err(format!("there is no link {name} in this run")),
        }
    }

    /// Lets a link pass again. Harmless where there is none.
    pub fn heal(&self, name: Link) {
        if let Ok(proxy) = self.link(name) {
            proxy.set(Control::Pass);
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[tokio::test]
    async fn a_database_is_led_to_by_another_host_and_port_and_the_rest_of_its_url_stays() {
        let mut links = Links::new(true);
        let url = "postgresql://me:s%40crit@localhost:6543/events?application_name=x";
        let over = links.lead_to_database(Link::ToPostgres(0), url).unwrap();
        let address = links.link(Link::ToPostgres(0)).unwrap().address();
        let wanted = format!("postgresql://me:s%40crit@{address}/events?application_name=x");
        assert_eq!(over, wanted);
    }

    #[tokio::test]
    async fn a_database_on_a_socket_has_no_link_and_says_why() {
        let mut links = Links::new(true);
        let url = "postgresql:///events?host=/var/run/postgresql";
        assert_eq!(
            links.lead_to_database(Link::ToPostgres(0), url).unwrap(),
            url
        );
        let why = links.link(Link::ToPostgres(0)).unwrap_err();
        assert!(why.contains("no host to connect to by TCP"), "{why}");
    }

    #[test]
    fn a_plan_without_faults_of_links_has_none() {
        let mut links = Links::new(false);
        let address = "127.0.0.1:9".parse().unwrap();
        assert_eq!(links.lead(Link::ToApi(0), address).unwrap(), address);
        assert!(links.link(Link::ToApi(0)).is_err());
    }
}
