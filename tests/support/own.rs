//! A Postgres of one test's own, for what concerns the whole server.

use chaos::postgres::{OwnServer, Wanted};

/// Starts it, or says why it cannot be had. Its database is to be made by the test.
pub(crate) async fn own_server() -> Option<OwnServer> {
    let mut reasons = Vec::new();
    for way in [Wanted::Machine, Wanted::Downloaded] {
        match OwnServer::start(&way, false).await {
            Ok(own) => return Some(own),
            Err(error) => reasons.push(error.to_string()),
        }
    }
    eprintln!("skipped: a Postgres of one's own: {}", reasons.join("; "));
    None
}
