//! The server that had the directory before: one that is still ending, or one whose pid file lies
//! around. Neither may block a start; a server that lives must.

use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

use super::error::MachineError;

/// How long the server of a harness that was killed may take to go away, seconds.
const PREDECESSOR_SECONDS_MAX: Duration = Duration::from_secs(10);
/// Pause between two looks at it, milliseconds.
const PREDECESSOR_POLL: Duration = Duration::from_millis(20);

/// Waits for the server of a harness that was killed; removes a pid file that names a stranger.
pub(super) async fn yield_to_predecessor(data: &Path) -> Result<(), MachineError> {
    let deadline = Instant::now() + PREDECESSOR_SECONDS_MAX;
    while let Some(pid) = live_holder(data) {
        if Instant::now() >= deadline {
            return Err(MachineError::Held {
                path: data.to_path_buf(),
                pid,
            });
        }
        sleep(PREDECESSOR_POLL).await;
    }
    remove_misleading_pid_file(data)
}

/// Postgres refuses to start when the number in a stale file belongs to another process by now. A
/// number that belongs to nobody is left to Postgres, which knows the case.
fn remove_misleading_pid_file(data: &Path) -> Result<(), MachineError> {
    let path = data.join("postmaster.pid");
    if pid_in(&path).is_none_or(|pid| kill(pid, None) == Err(Errno::ESRCH)) {
        return Ok(());
    }
    std::fs::remove_file(&path).map_err(|source| MachineError::Files {
        doing: "removing the stale pid file",
        path,
        source,
    })
}

fn pid_in(file: &Path) -> Option<Pid> {
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().next()?.trim().parse().ok().map(Pid::from_raw)
}

/// The process that holds the cluster in `data`, if it lives and is a Postgres.
pub(crate) fn live_holder(data: &Path) -> Option<u32> {
    let pid = pid_in(&data.join("postmaster.pid"))?;
    let number = u32::try_from(pid.as_raw()).ok()?;
    if !Path::new("/proc/self").exists() {
        return kill(pid, None).is_ok().then_some(number);
    }
    let command = std::fs::read(Path::new("/proc").join(pid.to_string()).join("cmdline")).ok()?;
    String::from_utf8_lossy(&command)
        .contains("postgres")
        .then_some(number)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

    use std::process::Stdio;

    use super::*;

    fn pid_file(data: &Path, pid: u32) {
        std::fs::write(data.join("postmaster.pid"), format!("{pid}\n/x\n")).unwrap();
    }

    #[tokio::test]
    async fn a_pid_file_that_names_a_stranger_does_not_block_the_next_start() {
        let data = tempfile::tempdir().unwrap();
        let mut stranger = std::process::Command::new("sleep")
            .arg("60")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        pid_file(data.path(), stranger.id());
        assert_eq!(live_holder(data.path()), None);
        yield_to_predecessor(data.path()).await.unwrap();
        assert!(!data.path().join("postmaster.pid").exists());
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }

    #[tokio::test]
    async fn a_directory_without_a_pid_file_is_free() {
        let data = tempfile::tempdir().unwrap();
        assert_eq!(live_holder(data.path()), None);
        yield_to_predecessor(data.path()).await.unwrap();
    }
}
