//! Which account runs the server: Postgres refuses root, so root hands it to an unprivileged one.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{User, geteuid};
use tokio::process::Command;

/// Accounts that root hands the server to, in this order.
const ACCOUNTS: [&str; 2] = ["postgres", "nobody"];
/// Directories tried for what the account must reach, after the one in the environment.
const TEMPORARY_DIRECTORIES: [&str; 2] = ["/tmp", "/var/tmp"];

/// The unprivileged account that root starts Postgres as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: String,
    uid: u32,
    gid: u32,
}

impl Account {
    /// `None` when the caller is unprivileged already.
    pub(super) fn to_drop_to() -> Result<Option<Self>, String> {
        if !geteuid().is_root() {
            return Ok(None);
        }
        let found = ACCOUNTS
            .iter()
            .find_map(|name| User::from_name(name).ok().flatten());
        match found {
            Some(user) => Ok(Some(Self {
                name: user.name,
                uid: user.uid.as_raw(),
                gid: user.gid.as_raw(),
            })),
            None => Err(format!(
                "root may not run Postgres, and no account of {ACCOUNTS:?} exists"
            )),
        }
    }

    /// A command that runs as this account; std also drops root's supplementary groups.
    pub(super) fn command(account: Option<&Self>, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Some(account) = account {
            command.uid(account.uid).gid(account.gid);
        }
        command.current_dir("/");
        command
    }

    /// Hands `path` to the account.
    pub(super) fn give(account: Option<&Self>, path: &Path) -> std::io::Result<()> {
        match account {
            Some(account) => std::os::unix::fs::chown(path, Some(account.uid), Some(account.gid)),
            None => Ok(()),
        }
    }

    /// Whether the account may walk to `path` (what exists of it).
    fn reaches(&self, path: &Path) -> bool {
        path.ancestors()
            .filter_map(|part| part.metadata().ok())
            .all(|part| {
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

/// Whether the account that would run Postgres reaches `path`.
pub(super) fn reachable(path: &Path) -> bool {
    match Account::to_drop_to() {
        Ok(Some(account)) => account.reaches(path),
        _ => true,
    }
}

/// A temporary directory that the account reaches: `TMPDIR` may lie below a private home.
pub(super) fn temporary_directory() -> PathBuf {
    let given = std::env::temp_dir();
    std::iter::once(given.clone())
        .chain(TEMPORARY_DIRECTORIES.iter().map(PathBuf::from))
        .find(|directory| directory.is_dir() && reachable(directory))
        .unwrap_or(given)
}

/// `preferred` if it can be reached, else a directory of this user's in the temporary one.
pub(super) fn reachable_directory(preferred: &Path, fallback_name: &str) -> PathBuf {
    if reachable(preferred) {
        return preferred.to_path_buf();
    }
    fallback_directory(fallback_name)
}

/// A directory of this user's in the temporary one.
pub(super) fn fallback_directory(name: &str) -> PathBuf {
    temporary_directory().join(format!("{name}-{}", geteuid()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

    use super::*;

    #[test]
    fn a_private_home_is_not_reached_and_an_open_directory_is() {
        let base = tempfile::tempdir().unwrap();
        std::fs::set_permissions(base.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let home = base.path().join("home");
        std::fs::create_dir(&home).unwrap();
        std::fs::set_permissions(&home, PermissionsExt::from_mode(0o700)).unwrap();
        let nobody = Account {
            name: "stranger".into(),
            uid: 54_321,
            gid: 54_321,
        };
        assert!(nobody.reaches(base.path()));
        assert!(!nobody.reaches(&home.join("data")));
    }
}
