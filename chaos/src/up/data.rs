//! The Postgres of `chaos up` and its data directory.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::terminal::say;
use crate::postgres::{
    DATABASE_URL_VARIABLE, Postgres, PostgresError, Wanted, fallback_directory, holder_of,
    reachable_directory,
};

/// Name of the data directory in `target/`.
const DIRECTORY: &str = "chaos-up";
/// The database of the dispatcher.
const DATABASE: &str = "webhook_dispatcher";

/// Starts or finds a server and returns it with the URL of the database. `fresh` deletes old data.
pub(super) async fn postgres(fresh: bool) -> anyhow::Result<(Postgres, String)> {
    let given = std::env::var(DATABASE_URL_VARIABLE).ok().filter(|url| !url.is_empty());
    let postgres = match given {
        Some(_) if fresh => {
            bail!(
                "--fresh deletes no data of the server in {DATABASE_URL_VARIABLE}: unset the \
                 variable, or omit --fresh"
            )
        }
        Some(url) => Postgres::obtain(Wanted::Url(url)).await?,
        None => own_server(fresh).await?,
    };
    let url = postgres.ensure_database(DATABASE).await.context("creating the database")?;
    Ok((postgres, url))
}

async fn own_server(fresh: bool) -> anyhow::Result<Postgres> {
    let directory = directory();
    if fresh {
        delete(&directory)?;
    }
    say(&format!("data in {} (--fresh deletes it)", directory.display()));
    let mut failed = match Postgres::machine_at(&directory.join("postgres")).await {
        Ok(postgres) => return Ok(postgres),
        Err(PostgresError::NoneAvailable(failed)) => failed,
        Err(other) => return Err(other.into()),
    };
    // Existing data must not be ignored silently by an empty server in a container.
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

/// Returns a directory in `target/` if this user owns it and the account of Postgres can read it.
fn directory() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"));
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace.join("target"), PathBuf::from);
    let target = std::path::absolute(&target).unwrap_or(target);
    let is_owned =
        target.metadata().is_ok_and(|data| data.uid() == nix::unistd::geteuid().as_raw());
    if is_owned {
        reachable_directory(&target.join(DIRECTORY), DIRECTORY)
    } else {
        fallback_directory(DIRECTORY)
    }
}

fn delete(directory: &Path) -> anyhow::Result<()> {
    if let Some(pid) = holder_of(&directory.join("postgres")) {
        bail!(
            "{} is in use by the server with process id {pid}: stop it first",
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
    fn deleting_the_data_is_idempotent() {
        let base = tempfile::tempdir().unwrap();
        let directory = base.path().join("chaos-up");
        std::fs::create_dir_all(directory.join("postgres/data")).unwrap();
        delete(&directory).unwrap();
        assert!(!directory.exists());
        delete(&directory).unwrap();
    }
}
