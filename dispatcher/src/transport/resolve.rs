//! Resolves names and removes refused addresses. The checked addresses are the dialed ones, so a
//! name cannot change between check and connection (DNS rebinding).

use std::net::IpAddr;

use super::error::{DialError, failed};
use super::exhaustion;
use super::lookups::{Lookup, Lookups};
use crate::event::Outcome;
use crate::target::AllowList;

/// Returns the permitted addresses of a name. The system's resolver finds them.
pub(super) async fn resolve(
    name: &str,
    lookups: &Lookups,
    allowed: &AllowList,
) -> Result<Vec<IpAddr>, DialError> {
    match lookups.find(name, look_up).await {
        Ok(addresses) => permitted(name, addresses, allowed),
        Err(reason) => Err(match exhaustion::of_resolving() {
            Some(exhausted) => Err(exhausted),
            None => unknown(name, &reason),
        }),
    }
}

async fn look_up(name: String) -> Lookup {
    let found = tokio::net::lookup_host((name, 0)).await.map_err(|error| error.to_string())?;
    Ok(found.map(|address| address.ip()).collect())
}

fn permitted(
    name: &str,
    mut addresses: Vec<IpAddr>,
    allowed: &AllowList,
) -> Result<Vec<IpAddr>, DialError> {
    let Some(first) = addresses.first().copied() else {
        return Err(unknown(name, "no addresses"));
    };
    addresses.retain(|address| allowed.refusal(*address).is_none());
    match allowed.refusal(first) {
        Some(range) if addresses.is_empty() => {
            let permit = "ALLOWED_TARGET_CIDRS can permit it";
            let error = format!("{name} resolves to {first}, which is {range}; {permit}");
            Err(failed(Outcome::TargetRefused, error))
        }
        _ => Ok(addresses),
    }
}

fn unknown(name: &str, reason: &str) -> DialError {
    failed(Outcome::Dns, format!("resolving {name}: {reason}"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn parsed(addresses: &[&str]) -> Vec<IpAddr> {
        let parsed = addresses.iter().map(|address| address.parse().unwrap());
        parsed.collect()
    }

    #[test]
    fn refused_addresses_of_a_name_are_not_dialed() {
        let found = parsed(&["127.0.0.1", "93.184.215.14", "::1", "2606:2800::1"]);
        let dialed = permitted("mixed.test", found, &AllowList::default()).unwrap();
        assert_eq!(dialed, parsed(&["93.184.215.14", "2606:2800::1"]));
    }

    #[test]
    fn name_with_only_refused_addresses_is_refused() {
        let refused = permitted("inner.test", parsed(&["10.0.0.1"]), &AllowList::default());
        assert!(matches!(refused, Err(Ok(result)) if result.outcome == Outcome::TargetRefused));
    }

    #[test]
    fn name_without_addresses_is_unknown() {
        let unknown = permitted("empty.test", Vec::new(), &AllowList::default());
        assert!(matches!(unknown, Err(Ok(result)) if result.outcome == Outcome::Dns));
    }
}
