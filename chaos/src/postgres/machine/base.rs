//! The directory of a cluster: the data, and beside it the server's log and the owner's password.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::super::account::{self, Account};
use super::Place;
use super::error::MachineError;

/// The directory around the data: log and password live beside it. Removed on failure if ours.
pub(super) struct Base {
    pub(super) path: PathBuf,
    pub(super) kept: bool,
    temporary: Option<tempfile::TempDir>,
}

impl Base {
    pub(super) fn prepare(place: Place, account: Option<&Account>) -> Result<Self, MachineError> {
        let files = |doing, path: &Path| {
            let path = path.to_path_buf();
            move |source| MachineError::Files {
                doing,
                path,
                source,
            }
        };
        let base = match place {
            Place::Temporary | Place::Own { .. } => {
                let parent = account::temporary_directory();
                let temporary = tempfile::Builder::new()
                    .prefix("chaos-postgres-")
                    .tempdir_in(&parent)
                    .map_err(files("creating a directory in", &parent))?;
                let path = temporary.path().to_path_buf();
                Self {
                    path,
                    kept: false,
                    temporary: Some(temporary),
                }
            }
            Place::Kept(path) => {
                std::fs::create_dir_all(&path).map_err(files("creating", &path))?;
                Self {
                    path,
                    kept: true,
                    temporary: None,
                }
            }
        };
        let private = PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&base.path, private).map_err(files("closing", &base.path))?;
        Account::give(account, &base.path).map_err(files("handing over", &base.path))?;
        Ok(base)
    }

    /// The owner's password, made on the first start: loopback is shared with every local user.
    pub(super) fn password(&self, account: Option<&Account>) -> Result<String, MachineError> {
        let path = self.path.join("password");
        let files = |doing| {
            let path = path.clone();
            move |source| MachineError::Files {
                doing,
                path,
                source,
            }
        };
        if let Ok(password) = std::fs::read_to_string(&path) {
            return Ok(password.trim().to_owned());
        }
        let password = uuid::Uuid::new_v4().simple().to_string();
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(files("creating"))?;
        writeln!(file, "{password}").map_err(files("writing"))?;
        Account::give(account, &path).map_err(files("handing over"))?;
        Ok(password)
    }

    /// From here on the cluster removes the directory itself.
    pub(super) fn hand_over(self) {
        if let Some(temporary) = self.temporary {
            let _path = temporary.keep();
        }
    }
}
