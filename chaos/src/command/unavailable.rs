//! Which kinds of fault this machine, or this choice of a Postgres, does not allow, and why.

use std::collections::BTreeMap;

use crate::nemesis::{FAULTS, POSTGRES_DISK_FULL};
use crate::postgres::{OwnServer, Wanted};

/// By name, with the reason.
pub(super) async fn unavailable(wanted: &Wanted) -> BTreeMap<String, String> {
    let of_postgres = FAULTS.iter().map(|kind| kind.name);
    let mut of_postgres = of_postgres.filter(|name| name.starts_with("postgres."));
    let mut unavailable = BTreeMap::new();
    if let Err(why) = OwnServer::available(wanted).await {
        unavailable.extend(of_postgres.map(|name| (name.to_owned(), why.clone())));
    } else if let Err(why) = OwnServer::small_disk_available() {
        let disk_full = of_postgres.find(|name| *name == POSTGRES_DISK_FULL);
        unavailable.extend(disk_full.map(|name| (name.to_owned(), why)));
    }
    unavailable
}
