//! A disk so small that a fault can fill it: a file system in memory, mounted for one cluster.
//!
//! Only root may mount. What is on it outlives every process of the server, as on any disk.

use std::fs::{OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::account::Account;
use super::error::MachineError;

/// Room of the disk, in MiB: an empty cluster takes 70, a run adds a tenth of that.
pub(crate) const DISK_MIB: u32 = 192;
/// What the fill is written in, in bytes.
const FILL_STEP: usize = 64 * 1024;

/// A mounted disk. Dropping it takes it away.
#[derive(Debug)]
pub(crate) struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts one on a directory that is made for it.
    pub(super) fn mount(path: &Path, account: Option<&Account>) -> Result<Self, MachineError> {
        let failed = |doing| {
            let path = path.to_path_buf();
            move |source| MachineError::Files {
                doing,
                path,
                source,
            }
        };
        std::fs::create_dir_all(path).map_err(failed("creating"))?;
        let size = format!("size={DISK_MIB}m");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "chaos-postgres"]);
        run(mount.arg(path)).map_err(failed("mounting a small disk on"))?;
        let disk = Self {
            path: path.to_path_buf(),
        };
        std::fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(failed("closing"))?;
        Account::give(account, path).map_err(failed("handing over"))?;
        Ok(disk)
    }

    /// Whether one can be mounted here, by trying.
    pub(crate) fn here() -> Result<(), String> {
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let mounted = Self::mount(directory.path(), None);
        mounted.map(drop).map_err(|error| error.to_string())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes all the room that is left but the last `spare` bytes. Gives what was taken.
    pub(crate) fn fill(&self, spare: u64) -> io::Result<u64> {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.filler())?;
        let mut taken = 0;
        loop {
            match file.write(&[0; FILL_STEP]) {
                Ok(written) => taken += written as u64,
                Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                Err(error) => return Err(error),
            }
        }
        let kept = file.metadata()?.len().saturating_sub(spare);
        file.set_len(kept)?;
        Ok(taken.saturating_sub(spare))
    }

    /// Gives the room back. Harmless when none was taken.
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
        // Lazily: the last process of a server that was killed may still be ending.
        let _unmounted = run(Command::new("umount").arg("-l").arg(&self.path));
    }
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(said))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

    use super::*;

    #[test]
    fn a_full_disk_takes_nothing_until_it_is_freed_and_goes_without_a_trace() {
        if let Err(why) = SmallDisk::here() {
            eprintln!("skipped: a small disk: {why}");
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
