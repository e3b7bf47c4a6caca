//! The previous server of a data directory. It may still be ending, or it may have left a stale pid
//! file. Neither blocks a start. A server that continues to run blocks it.

use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

use super::error::MachineError;

/// Time limit for the end of the server of a killed harness.
const PREDECESSOR_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause between two checks.
const PREDECESSOR_CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// Waits until the previous server has ended, and removes its pid file if another process has its
/// id.
///
/// # Errors
/// If the server still runs after 10 s, or the pid file cannot be removed.
pub(super) async fn wait_for_predecessor(data: &Path) -> Result<(), MachineError> {
    let deadline = Instant::now() + PREDECESSOR_TIMEOUT;
    while let Some(pid) = live_holder(data) {
        if Instant::now() >= deadline {
            return Err(MachineError::Held { path: data.to_path_buf(), pid });
        }
        sleep(PREDECESSOR_CHECK_INTERVAL).await;
    }
    remove_misleading_pid_file(data)
}

/// Removes a stale pid file if another process has its id, because Postgres then refuses to start.
/// If no process has the id, Postgres removes the file without help.
fn remove_misleading_pid_file(data: &Path) -> Result<(), MachineError> {
    let path = data.join("postmaster.pid");
    if pid_in(&path).is_none_or(|pid| kill(pid, None) == Err(Errno::ESRCH)) {
        return Ok(());
    }
    std::fs::remove_file(&path).map_err(|source| MachineError::Files {
        operation: "removing the stale pid file",
        path,
        source,
    })
}

fn pid_in(file: &Path) -> Option<Pid> {
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().next()?.trim().parse().ok().map(Pid::from_raw)
}

/// Returns the process id in the pid file of `data` if a Postgres process has it.
pub(crate) fn live_holder(data: &Path) -> Option<u32> {
    let pid = pid_in(&data.join("postmaster.pid"))?;
    let number = u32::try_from(pid.as_raw()).ok()?;
    if !Path::new("/proc/self").exists() {
        return kill(pid, None).is_ok().then_some(number);
    }
    let command = std::fs::read(Path::new("/proc").join(pid.to_string()).join("cmdline")).ok()?;
    String::from_utf8_lossy(&command).contains("postgres").then_some(number)
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
    async fn pid_file_of_another_program_does_not_block_a_start() {
        let data = tempfile::tempdir().unwrap();
        let mut other_program =
            std::process::Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        pid_file(data.path(), other_program.id());
        assert_eq!(live_holder(data.path()), None);
        wait_for_predecessor(data.path()).await.unwrap();
        assert!(!data.path().join("postmaster.pid").exists());
        other_program.kill().unwrap();
        other_program.wait().unwrap();
    }

    #[tokio::test]
    async fn directory_without_a_pid_file_is_free() {
        let data = tempfile::tempdir().unwrap();
        assert_eq!(live_holder(data.path()), None);
        wait_for_predecessor(data.path()).await.unwrap();
    }
}
