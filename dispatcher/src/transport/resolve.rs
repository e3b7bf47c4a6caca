//! Names to addresses, refused ones left out: the addresses that are checked are the ones that are dialled.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::dial::DialError;
use super::lookups::{Found, Lookups};
use super::shortage;
use crate::target::AllowList;

/// The system's resolver behind the guard.
#[derive(Clone)]
pub(super) struct GuardedResolver {
    allowed: Arc<AllowList>,
    lookups: Lookups,
}

/// Why a name gives no address to dial.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResolveError {
    /// The resolver failed or knows no address.
    #[error("{name} does not resolve: {why}")]
    Unknown {
        /// The name.
        name: String,
        /// What the resolver said.
        why: String,
    },
    /// There are addresses, and none may be dialled.
    #[error("{name} resolves to {address}, which is {why}; ALLOWED_TARGET_CIDRS can permit it")]
    Refused {
        /// The name.
        name: String,
        /// The first of the addresses.
        address: IpAddr,
        /// The range it is in.
        why: &'static str,
    },
}

impl GuardedResolver {
    pub(super) fn new(allowed: Arc<AllowList>) -> Self {
        Self {
            allowed,
            lookups: Lookups::default(),
        }
    }

    /// The addresses of a name that may be dialled, port 0 each.
    pub(super) async fn resolve(&self, name: &str) -> Result<Vec<SocketAddr>, DialError> {
        match self.lookups.find(name, look_up).await {
            Ok(found) => Ok(permitted(name, found, &self.allowed)?),
            Err(why) => Err(match shortage::of_resolving() {
                Some(shortage) => shortage.into(),
                None => unknown(name, &why).into(),
            }),
        }
    }
}

/// By the system's resolver.
async fn look_up(name: String) -> Found {
    match tokio::net::lookup_host((name, 0)).await {
        Ok(found) => Ok(found.collect()),
        Err(error) => Err(error.to_string()),
    }
}

/// The addresses that may be dialled.
fn permitted(
    name: &str,
    found: Vec<SocketAddr>,
    allowed: &AllowList,
) -> Result<Vec<SocketAddr>, ResolveError> {
    let mut refused = None;
    let dialled: Vec<_> = found
        .into_iter()
        .filter(|socket| {
            let why = allowed.refusal(socket.ip());
            refused = refused.or(why.map(|why| (socket.ip(), why)));
            why.is_none()
        })
        .collect();
    match (dialled.is_empty(), refused) {
        (false, _) => Ok(dialled),
        (true, Some((address, why))) => Err(ResolveError::Refused {
            name: name.to_owned(),
            address,
            why,
        }),
        (true, None) => Err(unknown(name, &"no addresses")),
    }
}

fn unknown(name: &str, why: &dyn std::fmt::Display) -> ResolveError {
    ResolveError::Unknown {
        name: name.to_owned(),
        why: why.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn sockets(addresses: &[&str]) -> Vec<SocketAddr> {
        addresses
            .iter()
            .map(|address| SocketAddr::new(address.parse().unwrap(), 0))
            .collect()
    }

    #[test]
    fn of_mixed_addresses_only_the_allowed_ones_are_dialled() {
        let found = sockets(&["127.0.0.1", "93.184.215.14", "::1", "2606:2800::1"]);
        let dialled = permitted("mixed.test", found, &AllowList::default()).unwrap();
        assert_eq!(dialled, sockets(&["93.184.215.14", "2606:2800::1"]));
    }

    #[test]
    fn a_name_with_refused_addresses_alone_is_refused_and_one_with_none_is_unknown() {
        let refused = permitted("inner.test", sockets(&["10.0.0.1"]), &AllowList::default());
        assert!(matches!(refused, Err(ResolveError::Refused { .. })));
        let unknown = permitted("empty.test", Vec::new(), &AllowList::default());
        assert!(matches!(unknown, Err(ResolveError::Unknown { .. })));
    }
}
