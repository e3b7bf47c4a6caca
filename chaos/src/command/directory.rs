//! Creates the directory of a run. A run never overwrites another one.

use std::io;
use std::path::{Path, PathBuf};

use crate::seed::Seed;

/// Creates `out`, or a directory with time and seed in `target/chaos`, and returns its path.
///
/// # Errors
/// Returns an error if the directory is not empty or cannot be created.
pub(super) fn create(out: Option<&Path>, seed: Seed) -> io::Result<PathBuf> {
    let dir = out.map_or_else(|| default(seed), Path::to_path_buf);
    std::fs::create_dir_all(&dir)?;
    if std::fs::read_dir(&dir)?.next().is_some() {
        let reason = format!(
            "{} is not empty: a run is never overwritten; give a new directory",
            dir.display()
        );
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, reason));
    }
    dir.canonicalize()
}

fn default(seed: Seed) -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let utc = chrono::Utc::now().format("%Y%m%dT%H%M%S%3fZ");
    target.join("chaos").join(format!("{utc}-{seed}"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn directory_with_files_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = dir.path().join("a/b");
        assert!(create(Some(&wanted), Seed::new(1)).is_ok());
        std::fs::write(wanted.join("history.jsonl"), "").unwrap();
        let refused = create(Some(&wanted), Seed::new(1)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
    }
}
