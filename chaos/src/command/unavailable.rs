//! The kinds of fault that this machine, or this choice of a Postgres, does not allow, with
//! reasons.

use std::collections::BTreeMap;

use crate::fault::Needs;
use crate::nemesis::KINDS;
use crate::postgres::{OwnServer, Wanted};

/// Returns the reason by the name of the kind.
pub(super) async fn unavailable(wanted: &Wanted) -> BTreeMap<String, String> {
    if let Err(why) = OwnServer::available(wanted).await {
        return with_need(|needs| needs.own_postgres, &why);
    }
    let mut unavailable = BTreeMap::new();
    if let Err(why) = OwnServer::small_disk_available() {
        unavailable.extend(with_need(|needs| needs.small_disk, &why));
    }
    if let Err(why) = OwnServer::clock_available() {
        unavailable.extend(with_need(|needs| needs.clock, &why));
    }
    unavailable
}

fn with_need(has: fn(&Needs) -> bool, why: &str) -> BTreeMap<String, String> {
    let kinds = KINDS.iter().filter(|kind| has(&kind.needs));
    kinds.map(|kind| (kind.name.to_owned(), why.to_owned())).collect()
}
