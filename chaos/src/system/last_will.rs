//! What is still done when the harness dies without doing it: a shell waits on a pipe that only the
//! harness holds open, and acts when the pipe ends.
//!
//! The kernel's parent-death signal would not do: it fires when the *thread* that spawned the child
//! ends, and a runtime's threads end long before the process.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// A script: kills the process `$1`, the leader of its group, and what it started in the group.
pub(crate) const KILL_GROUP: &str = r#"kill -KILL "-$1" 2>/dev/null"#;
/// Said through the pipe when there is nothing left to do.
const REVOKED: &[u8] = b"revoked\n";

/// A shell that acts once this process is gone. Dropping it revokes it.
#[derive(Debug)]
pub(crate) struct LastWill {
    shell: Child,
}

impl LastWill {
    /// `script` is run by `sh` with `arguments` as `$1`, `$2`, … if this process dies.
    pub(crate) fn leave(script: &str, arguments: &[&str]) -> io::Result<Self> {
        // The signals of a terminal that closes must not end the shell before it acts.
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
            // Where nobody reads any more, the shell is gone and there is nothing to revoke.
            let _said = pipe.write_all(REVOKED);
        }
        let _reaped = self.shell.wait();
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

    use super::*;

    #[test]
    fn a_will_is_done_when_the_pipe_ends_and_not_when_it_is_revoked() {
        let directory = tempfile::tempdir().unwrap();
        let done = directory.path().join("done");
        let path = done.to_str().unwrap();

        let revoked = LastWill::leave(": > \"$1\"", &[path]).unwrap();
        drop(revoked);
        assert!(!done.exists());

        // Closing the pipe without a word is what the death of this process does.
        let mut kept = LastWill::leave(": > \"$1\"", &[path]).unwrap();
        drop(kept.shell.stdin.take());
        assert!(kept.shell.wait().unwrap().success());
        assert!(done.exists());
    }
}
