//! A separate `/etc/hosts` for a process, in a mount namespace.
//!
//! A user other than root needs a user namespace, which some systems forbid.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

/// Mounts the first argument over `/etc/hosts` and becomes the program of the others, so that the
/// process id stays.
const ENTER: &str = r#"mount --bind "$0" /etc/hosts && exec "$@""#;
/// The namespaces for root, and those for other users.
const NAMESPACES: [&[&str]; 2] = [&["--mount"], &["--map-root-user", "--mount"]];

/// The way to replace `/etc/hosts` for a process on this machine.
#[derive(Debug)]
pub(super) struct HostsFile {
    namespaces: &'static [&'static str],
}

impl HostsFile {
    /// Finds the way by a try with this file.
    ///
    /// # Errors
    /// Returns the reason if there is none.
    pub(super) async fn find(file: &Path) -> Result<Self, String> {
        let mut why = String::new();
        for namespaces in NAMESPACES {
            let hosts = Self { namespaces };
            let tried = hosts.command(file, Path::new("true")).stdin(Stdio::null()).output().await;
            match tried {
                Ok(output) if output.status.success() => return Ok(hosts),
                Ok(output) => why = String::from_utf8_lossy(&output.stderr).trim().to_owned(),
                Err(error) => why = error.to_string(),
            }
        }
        Err(format!("/etc/hosts cannot be replaced in a mount namespace: {why}"))
    }

    /// A command that runs `program` with this file as `/etc/hosts`. Arguments can be added.
    pub(super) fn command(&self, file: &Path, program: &Path) -> Command {
        let mut command = Command::new("unshare");
        command.args(self.namespaces).args(["sh", "-c", ENTER]).arg(file).arg(program);
        command
    }
}
