//! What is known of a run besides its history: commit, machine, and what Postgres says of itself.

use std::collections::BTreeMap;
use std::process::Command;

use sqlx::Connection as _;

/// The settings that a proof of durability rests on.
const SETTINGS: &[&str] = &[
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_sync_method",
    "server_version",
];

/// The commit of the checkout that the harness runs in, `+dirty` when files differ from it.
pub(super) fn git() -> String {
    let ask = |args: &[&str]| {
        let output = Command::new("git")
            .args(args)
            .output()
            .ok()
            .filter(|o| o.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = ask(&["rev-parse", "HEAD"]) else {
        return "unknown".to_owned();
    };
    let clean = ask(&["status", "--porcelain"]).is_some_and(|changes| changes.is_empty());
    format!("{commit}{}", if clean { "" } else { "+dirty" })
}

/// Kernel and processors.
pub(super) fn host() -> BTreeMap<String, String> {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    BTreeMap::from([
        ("kernel".to_owned(), kernel.trim().to_owned()),
        ("processors".to_owned(), processors.to_string()),
    ])
}

/// The durability settings as Postgres itself tells them.
///
/// # Errors
/// When it cannot be asked.
pub(super) async fn durability(url: &str) -> Result<BTreeMap<String, String>, sqlx::Error> {
    let mut connection = sqlx::PgConnection::connect(url).await?;
    let mut settings = BTreeMap::new();
    for name in SETTINGS {
        let value: String = sqlx::query_scalar("select current_setting($1)")
            .bind(*name)
            .fetch_one(&mut connection)
            .await?;
        settings.insert((*name).to_owned(), value);
    }
    connection.close().await?;
    Ok(settings)
}
