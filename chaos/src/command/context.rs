//! The facts about a run that are not in its history: commit, machine and durability settings.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use sqlx::Connection as _;

/// Maximum time to connect and to read the settings.
const DURABILITY_READ_MAX: Duration = Duration::from_secs(30);
/// The Postgres settings on which a proof of durability depends.
const SETTINGS: &[&str] =
    &["fsync", "synchronous_commit", "full_page_writes", "wal_sync_method", "server_version"];

/// Returns the commit of the working directory, with `+dirty` if files differ from it.
pub(super) fn git() -> String {
    let run_git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok().filter(|o| o.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = run_git(&["rev-parse", "HEAD"]) else {
        return "unknown".to_owned();
    };
    let clean = run_git(&["status", "--porcelain"]).is_some_and(|changes| changes.is_empty());
    format!("{commit}{}", if clean { "" } else { "+dirty" })
}

/// Returns the kernel release and the number of processors.
pub(super) fn host() -> BTreeMap<String, String> {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    BTreeMap::from([
        ("kernel".to_owned(), kernel.trim().to_owned()),
        ("processors".to_owned(), processors.to_string()),
    ])
}

/// Reads the durability settings from Postgres.
///
/// # Errors
/// Returns an error if Postgres refuses a statement or does not answer.
pub(super) async fn durability(url: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let settings = tokio::time::timeout(DURABILITY_READ_MAX, read_settings(url)).await;
    Ok(settings.context("Postgres did not answer in time")??)
}

async fn read_settings(url: &str) -> Result<BTreeMap<String, String>, sqlx::Error> {
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
