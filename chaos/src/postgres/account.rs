//! The account that runs a server. Postgres refuses to run as root, so if the harness runs as root,
//! the server runs as an unprivileged account that must reach its files.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{User, geteuid};
use tokio::process::Command;

/// Accounts that may run the server if the harness is root. The first existing one is used.
const ACCOUNTS: [&str; 2] = ["postgres", "nobody"];
/// Directories for temporary files, tried in this order after that of the environment.
const TEMPORARY_DIRECTORIES: [&str; 2] = ["/tmp", "/var/tmp"];

/// The unprivileged account that runs Postgres if the harness is root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: String,
    uid: u32,
    gid: u32,
}

impl Account {
    /// Returns the account for the server, or `None` if the harness does not run as root.
    ///
    /// # Errors
    /// If none of [`ACCOUNTS`] exists.
    pub(super) fn for_server() -> Result<Option<Self>, String> {
        if !geteuid().is_root() {
            return Ok(None);
        }
        let found = ACCOUNTS.iter().find_map(|name| User::from_name(name).ok().flatten());
        match found {
            Some(user) => {
                Ok(Some(Self { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw() }))
            }
            None => Err(format!(
                "Postgres refuses to run as root, and none of the accounts {ACCOUNTS:?} exists"
            )),
        }
    }

    /// Builds a command that runs as this account. `std` also drops root's supplementary groups.
    pub(super) fn command(account: Option<&Self>, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Some(account) = account {
            command.uid(account.uid).gid(account.gid);
        }
        command.current_dir("/");
        command
    }

    /// Makes the account the owner of `path`.
    pub(super) fn make_owner(account: Option<&Self>, path: &Path) -> std::io::Result<()> {
        match account {
            Some(account) => std::os::unix::fs::chown(path, Some(account.uid), Some(account.gid)),
            None => Ok(()),
        }
    }

    /// Returns true if the account may enter every existing directory on `path`.
    fn reaches(&self, path: &Path) -> bool {
        path.ancestors().filter_map(|part| part.metadata().ok()).all(|part| {
            let mode = part.permissions().mode();
            let bit = if part.uid() == self.uid {
                0o100
            } else if part.gid() == self.gid {
                0o010
            } else {
                0o001
            };
            !part.is_dir() || mode & bit != 0
        })
    }
}

/// Returns true if the account that would run Postgres reaches `path`.
fn reachable(path: &Path) -> bool {
    match Account::for_server() {
        Ok(Some(account)) => account.reaches(path),
        _ => true,
    }
}

/// Returns a temporary directory that the account reaches. `TMPDIR` may be in a private home.
pub(super) fn temporary_directory() -> PathBuf {
    let given = std::env::temp_dir();
    std::iter::once(given.clone())
        .chain(TEMPORARY_DIRECTORIES.iter().map(PathBuf::from))
        .find(|directory| directory.is_dir() && reachable(directory))
        .unwrap_or(given)
}

/// Returns `preferred` if the account that would run Postgres reaches it, else
/// [`fallback_directory`].
pub fn reachable_directory(preferred: &Path, fallback_name: &str) -> PathBuf {
    if reachable(preferred) {
        return preferred.to_path_buf();
    }
    fallback_directory(fallback_name)
}

/// Returns the path of a directory for this user, below a temporary directory that the account that
/// would run Postgres reaches.
pub fn fallback_directory(name: &str) -> PathBuf {
    temporary_directory().join(format!("{name}-{}", geteuid()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

    use super::*;

    #[test]
    fn private_home_is_not_reached() {
        let base = tempfile::tempdir().unwrap();
        std::fs::set_permissions(base.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let home = base.path().join("home");
        std::fs::create_dir(&home).unwrap();
        std::fs::set_permissions(&home, PermissionsExt::from_mode(0o700)).unwrap();
        let account = Account { name: "stranger".into(), uid: 54_321, gid: 54_321 };
        assert!(account.reaches(base.path()));
        assert!(!account.reaches(&home.join("data")));
    }
}
