//! `GET /receipts?since=SEQ`: the receipts of the journal as JSON, optionally only those after
//! `SEQ`.

use serde::Serialize;

use crate::journal::{Counts, Journal, Receipt};

/// Response of `GET /receipts`.
#[derive(Serialize)]
struct Page {
    /// Number of receipts that were dropped because of the limit.
    dropped: u64,
    counts: Counts,
    receipts: Vec<Receipt>,
}

/// Returns the response body, or `None` if `since` is not a number.
pub(super) fn page(journal: &Journal, query: &str) -> Option<String> {
    let since = query.split('&').find_map(|pair| pair.strip_prefix("since="));
    let since = since.unwrap_or("0").parse().ok()?;
    let page = Page {
        dropped: journal.dropped(),
        counts: journal.counts(),
        receipts: journal.receipts_since(since),
    };
    let mut body = serde_json::to_string(&page).expect("receipts are plain data");
    body.push('\n');
    Some(body)
}
