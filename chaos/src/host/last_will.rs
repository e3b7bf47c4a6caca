//! Cleanup that runs even if the harness is killed: a shell waits on a pipe that only the harness
//! holds open, and runs a script when the pipe closes.
//!
//! The kernel's parent-death signal is not sufficient. It fires when the *thread* that spawned the
//! child ends, and threads of the runtime end long before the process does.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// Script that kills the process group `$1`.
pub(crate) const KILL_GROUP: &str = r#"kill -KILL "-$1" 2>/dev/null"#;
/// Word on the pipe after which the shell exits without running the script.
const REVOKED: &[u8] = b"revoked\n";

/// A shell that runs its script when this process dies. Dropping the value cancels the script.
#[derive(Debug)]
pub(crate) struct LastWill {
    shell: Child,
}

impl LastWill {
    /// Starts a shell that runs `script` with `arguments` as `$1`, `$2`, … if this process dies.
    pub(crate) fn leave(script: &str, arguments: &[&str]) -> io::Result<Self> {
        // If the terminal closes, its signals must not end the shell before the script has run.
        let script =
            format!("trap '' HUP INT TERM\nread -r word\n[ -n \"$word\" ] && exit 0\n{script}");
        let shell = Command::new("sh")
            .args(["-c", &script, "chaos-last-will"])
            .args(arguments)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { shell })
    }
}

impl Drop for LastWill {
    fn drop(&mut self) {
        if let Some(mut pipe) = self.shell.stdin.take() {
            // The write fails only if the shell has exited. Then there is no script to cancel.
            let _written = pipe.write_all(REVOKED);
        }
        let _reaped = self.shell.wait();
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

    use super::*;

    #[test]
    fn script_runs_when_the_pipe_closes_unless_revoked() {
        let directory = tempfile::tempdir().unwrap();
        let done = directory.path().join("done");
        let path = done.to_str().unwrap();

        let revoked = LastWill::leave(": > \"$1\"", &[path]).unwrap();
        drop(revoked);
        assert!(!done.exists());

        // The death of this process also closes the pipe without a word.
        let mut kept = LastWill::leave(": > \"$1\"", &[path]).unwrap();
        drop(kept.shell.stdin.take());
        assert!(kept.shell.wait().unwrap().success());
        assert!(done.exists());
    }
}
