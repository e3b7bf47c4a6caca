//! The directory of a server: its data, its log and the password of its owner role.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::super::account::{self, Account};
use super::error::MachineError;

/// Location and lifetime of the data.
pub(crate) enum Place {
    /// A temporary directory, removed with the server.
    Temporary,
    /// A temporary directory for the dedicated server of a run, which faults may end.
    Own {
        /// True if the data must be on a small disk that a fault can fill.
        small_disk: bool,
        /// The library by which a fault can move the clock of the server.
        clock_library: Option<PathBuf>,
    },
    /// This directory, which outlives the server.
    Kept(PathBuf),
}

/// The directory of a server. A temporary one is removed on drop until [`Base::hand_over`].
pub(super) struct Base {
    pub(super) path: PathBuf,
    pub(super) kept: bool,
    temporary: Option<tempfile::TempDir>,
}

impl Base {
    pub(super) fn prepare(place: Place, account: Option<&Account>) -> Result<Self, MachineError> {
        let files = |operation, path: &Path| {
            let path = path.to_path_buf();
            move |source| MachineError::Files { operation, path, source }
        };
        let base = match place {
            Place::Temporary | Place::Own { .. } => {
                let parent = account::temporary_directory();
                let temporary = tempfile::Builder::new()
                    .prefix("chaos-postgres-")
                    .tempdir_in(&parent)
                    .map_err(files("creating a directory in", &parent))?;
                let path = temporary.path().to_path_buf();
                Self { path, kept: false, temporary: Some(temporary) }
            }
            Place::Kept(path) => {
                std::fs::create_dir_all(&path).map_err(files("creating", &path))?;
                Self { path, kept: true, temporary: None }
            }
        };
        let private = PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&base.path, private)
            .map_err(files("restricting the permissions of", &base.path))?;
        Account::make_owner(account, &base.path)
            .map_err(files("changing the owner of", &base.path))?;
        Ok(base)
    }

    /// Returns the password of the owner role and creates it on the first start. Without a
    /// password, every local user could connect over loopback.
    pub(super) fn password(&self, account: Option<&Account>) -> Result<String, MachineError> {
        let path = self.path.join("password");
        let files = |operation| {
            let path = path.clone();
            move |source| MachineError::Files { operation, path, source }
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
        Account::make_owner(account, &path).map_err(files("changing the owner of"))?;
        Ok(password)
    }

    /// Keeps a temporary directory after the drop. The caller removes it.
    pub(super) fn hand_over(self) {
        if let Some(temporary) = self.temporary {
            let _path = temporary.keep();
        }
    }
}
