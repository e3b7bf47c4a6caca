//! A small disk that a fault can fill: a file system in memory, mounted for one server.
//!
//! Only root may mount it. As on any disk, its files outlive every process of the server.

use std::fs::{OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::account::Account;
use super::error::MachineError;

/// Size of the disk in MiB. An empty database cluster takes 70 MiB and a run adds about 7 MiB.
const DISK_MIB: u32 = 192;
/// Size of one write while the disk is filled, in bytes.
const FILL_BYTES: usize = 64 * 1024;

/// A mounted disk. Dropping it unmounts the disk.
#[derive(Debug)]
pub(crate) struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Creates the directory `path` and mounts a disk on it.
    pub(super) fn mount(path: &Path, account: Option<&Account>) -> Result<Self, MachineError> {
        let failed = |operation| {
            let path = path.to_path_buf();
            move |source| MachineError::Files { operation, path, source }
        };
        std::fs::create_dir_all(path).map_err(failed("creating"))?;
        let size = format!("size={DISK_MIB}m");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "chaos-postgres"]);
        run(mount.arg(path)).map_err(failed("mounting a small disk on"))?;
        let disk = Self { path: path.to_path_buf() };
        std::fs::set_permissions(path, Permissions::from_mode(0o700))
            .map_err(failed("restricting the permissions of"))?;
        Account::make_owner(account, path).map_err(failed("changing the owner of"))?;
        Ok(disk)
    }

    /// Checks that a disk can be mounted here: mounts one and unmounts it.
    ///
    /// # Errors
    /// Returns the reason if it cannot.
    pub(crate) fn available() -> Result<(), String> {
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let mounted = Self::mount(directory.path(), None);
        mounted.map(drop).map_err(|error| error.to_string())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Fills the disk up to `spare_bytes` free bytes. Returns the number of bytes written.
    pub(crate) fn fill(&self, spare_bytes: u64) -> io::Result<u64> {
        let mut file = OpenOptions::new().create(true).append(true).open(self.filler())?;
        let mut filled = 0;
        loop {
            match file.write(&[0; FILL_BYTES]) {
                Ok(written) => filled += written as u64,
                Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                Err(error) => return Err(error),
            }
        }
        let kept = file.metadata()?.len().saturating_sub(spare_bytes);
        file.set_len(kept)?;
        Ok(filled.saturating_sub(spare_bytes))
    }

    /// Removes the bytes of [`Self::fill`]. Has no effect if there are none.
    pub(crate) fn free(&self) -> io::Result<()> {
        match std::fs::remove_file(self.filler()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn filler(&self) -> PathBuf {
        self.path.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The unmount is lazy, because processes of a killed server may still be ending.
        let _unmounted = run(Command::new("umount").arg("-l").arg(&self.path));
    }
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(stderr))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

    use super::*;

    #[test]
    fn full_disk_refuses_writes_until_it_is_freed() {
        if let Err(reason) = SmallDisk::available() {
            eprintln!("skipped: a small disk cannot be mounted: {reason}");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let disk = SmallDisk::mount(&directory.path().join("disk"), None).unwrap();
        let write = || std::fs::write(disk.path().join("other"), [1; 8_192]);
        write().unwrap();
        std::fs::remove_file(disk.path().join("other")).unwrap();
        disk.fill(0).unwrap();
        assert_eq!(write().unwrap_err().kind(), io::ErrorKind::StorageFull);
        disk.free().unwrap();
        disk.free().unwrap();
        write().unwrap();
        drop(disk);
        assert!(!directory.path().join("disk/other").exists());
    }
}
