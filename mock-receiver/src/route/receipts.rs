//! `GET /receipts`: the journal as JSON, whole or since a number.

use serde::Serialize;

use super::tell;
use crate::behavior::Next;
use crate::journal::{Counts, Journal, Receipt};
use crate::peer::{Gone, Peer};

/// The answer of `GET /receipts`.
#[derive(Serialize)]
struct Page {
    /// How many of the oldest receipts are no longer kept.
    dropped: u64,
    counts: Counts,
    receipts: Vec<Receipt>,
}

pub(super) async fn list(journal: &Journal, peer: &mut Peer, query: &str) -> Result<Next, Gone> {
    let since = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("since="));
    let Ok(since) = since.unwrap_or("0").parse() else {
        return tell(peer, 400, "{\"error\":\"since is not a number\"}\n").await;
    };
    let page = Page {
        dropped: journal.dropped(),
        counts: journal.counts(),
        receipts: journal.receipts_since(since),
    };
    let mut body = serde_json::to_string(&page).expect("receipts are plain data");
    body.push('\n');
    tell(peer, 200, &body).await
}
