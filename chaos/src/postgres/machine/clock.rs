//! A clock of one server that a fault can move: the library libfaketime in its processes.
//!
//! The library adds the offset in a file to the wall clock, and reads the file at each reading of
//! the clock. Monotonic clocks and the times of files stay. A signal handler that interrupts a
//! waiting process reads the real time. So while there is an offset, Postgres does not end a
//! waiting statement at its `statement_timeout`.

use std::ffi::OsStr;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::error::MachineError;

/// Name of the library for programs with threads. It works for programs without threads, too.
const LIBRARY: &str = "libfaketimeMT.so.1";
/// Directories of the library, after that of Debian, which contains the architecture.
const DIRECTORIES: [&str; 3] =
    ["/usr/lib/faketime", "/usr/lib64/faketime", "/usr/local/lib/faketime"];

/// A clock that can be moved. Its offset begins at 0.
#[derive(Debug)]
pub(crate) struct MovableClock {
    library: PathBuf,
    /// Contains the offset.
    file: PathBuf,
    offset_s: i64,
}

impl MovableClock {
    /// Finds the library.
    ///
    /// # Errors
    /// Returns the reason and the fix if it is not installed.
    pub(crate) fn library() -> Result<PathBuf, String> {
        let debian = format!("/usr/lib/{}-linux-gnu/faketime", std::env::consts::ARCH);
        let directories = std::iter::once(debian.as_str()).chain(DIRECTORIES);
        let mut paths = directories.map(|directory| Path::new(directory).join(LIBRARY));
        let missing = || {
            format!(
                "{LIBRARY} is not installed: install libfaketime (Debian: the package faketime)"
            )
        };
        paths.find(|path| path.is_file()).ok_or_else(missing)
    }

    /// Creates the file with the offset in the directory of the server.
    pub(super) fn create(library: PathBuf, base: &Path) -> Result<Self, MachineError> {
        let clock = Self { library, file: base.join("clock-offset"), offset_s: 0 };
        clock.write(0).map_err(|source| MachineError::Files {
            operation: "writing",
            path: clock.file.clone(),
            source,
        })?;
        Ok(clock)
    }

    /// The variables with which a process of the server is started.
    pub(super) fn environment(&self) -> [(&'static str, &OsStr); 5] {
        [
            ("LD_PRELOAD", self.library.as_os_str()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.as_os_str()),
            // Otherwise each process would see a step up to ten seconds later.
            ("FAKETIME_NO_CACHE", OsStr::new("1")),
            ("DONT_FAKE_MONOTONIC", OsStr::new("1")),
            ("NO_FAKE_STAT", OsStr::new("1")),
        ]
    }

    /// Moves the clock by this number of seconds. All processes see the step immediately.
    pub(crate) fn move_by(&mut self, seconds: i64) -> io::Result<()> {
        let offset_s = self.offset_s.saturating_add(seconds);
        self.write(offset_s)?;
        self.offset_s = offset_s;
        Ok(())
    }

    /// Replaces the file, because a process may read it at any time.
    fn write(&self, offset_s: i64) -> io::Result<()> {
        let new = self.file.with_extension("new");
        std::fs::write(&new, format!("{offset_s:+}\n"))?;
        std::fs::set_permissions(&new, Permissions::from_mode(0o644))?;
        std::fs::rename(&new, &self.file)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

    use super::*;

    #[test]
    fn steps_of_a_clock_add_up_and_have_a_sign() {
        let base = tempfile::tempdir().unwrap();
        let mut clock = MovableClock::create("library".into(), base.path()).unwrap();
        let offset = || std::fs::read_to_string(base.path().join("clock-offset")).unwrap();
        assert_eq!(offset(), "+0\n");
        clock.move_by(600).unwrap();
        assert_eq!(offset(), "+600\n");
        clock.move_by(-700).unwrap();
        assert_eq!(offset(), "-100\n");
    }
}
