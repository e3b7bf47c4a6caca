//! Where `chaos up` keeps its data, and the Postgres that keeps it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::terminal::say;
use crate::postgres::{
    DATABASE_URL_VARIABLE, Postgres, PostgresError, Wanted, fallback_directory, holder_of,
    reachable_directory,
};

/// Name of the directory below `target/`.
const DIRECTORY: &str = "chaos-up";
/// Name of the database.
const DATABASE: &str = "webhook_dispatcher";

/// A server with its data of the last start, unless `fresh`, and the URL of its database.
pub(super) async fn postgres(fresh: bool) -> anyhow::Result<(Postgres, String)> {
    let given = std::env::var(DATABASE_URL_VARIABLE)
        .ok()
        .filter(|url| !url.is_empty());
    let postgres = match given {
        Some(_) if fresh => {
            bail!("--fresh does not touch a server of yours: unset {DATABASE_URL_VARIABLE} first")
        }
        Some(url) => Postgres::obtain(Wanted::Url(url)).await?,
        None => own_server(fresh).await?,
    };
    let url = postgres
        .ensure_database(DATABASE)
        .await
        .context("making the database")?;
    Ok((postgres, url))
}

async fn own_server(fresh: bool) -> anyhow::Result<Postgres> {
    let directory = directory();
    if fresh {
        forget(&directory)?;
    }
    say(&format!(
        "data in {} (--fresh forgets it)",
        directory.display()
    ));
    let mut failed = match Postgres::machine_at(&directory.join("postgres")).await {
        Ok(postgres) => return Ok(postgres),
        Err(PostgresError::NoneAvailable(failed)) => failed,
        Err(other) => return Err(other.into()),
    };
    // Data that is there must not be passed over in silence by starting an empty server beside it.
    if directory.join("postgres/data/PG_VERSION").exists() {
        return Err(PostgresError::NoneAvailable(failed).into());
    }
    match Postgres::obtain(Wanted::Container).await {
        Ok(postgres) => {
            say("Postgres runs in a container, which keeps no data between starts");
            Ok(postgres)
        }
        Err(PostgresError::NoneAvailable(more)) => {
            failed.extend(more);
            Err(PostgresError::NoneAvailable(failed).into())
        }
        Err(other) => Err(other.into()),
    }
}

/// Below `target/` where that is ours and Postgres's account reaches it.
fn directory() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("/"));
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace.join("target"), PathBuf::from);
    let target = std::path::absolute(&target).unwrap_or(target);
    let ours = target
        .metadata()
        .is_ok_and(|data| data.uid() == nix::unistd::geteuid().as_raw());
    if ours {
        reachable_directory(&target.join(DIRECTORY), DIRECTORY)
    } else {
        fallback_directory(DIRECTORY)
    }
}

fn forget(directory: &Path) -> anyhow::Result<()> {
    if let Some(pid) = holder_of(&directory.join("postgres")) {
        bail!(
            "{} is in use by the server with process id {pid}",
            directory.display()
        );
    }
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", directory.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

    use super::*;

    #[test]
    fn forgetting_removes_the_data_and_may_be_repeated() {
        let base = tempfile::tempdir().unwrap();
        let directory = base.path().join("chaos-up");
        std::fs::create_dir_all(directory.join("postgres/data")).unwrap();
        forget(&directory).unwrap();
        assert!(!directory.exists());
        forget(&directory).unwrap();
    }
}
