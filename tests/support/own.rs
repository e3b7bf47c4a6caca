//! A Postgres of one test's own, for what concerns the whole server.

use std::path::PathBuf;

use chaos::postgres::{Postgres, reachable_directory};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A server of its own, for faults that take all of it down; its directory goes with it.
pub(crate) struct OwnServer {
    server: Option<Postgres>,
    directory: PathBuf,
}

impl OwnServer {
    /// Starts it, or says why it cannot be had.
    pub(crate) async fn start() -> Option<Self> {
        let name = format!("outage-{}", uuid::Uuid::new_v4());
        let directory = reachable_directory(&std::env::temp_dir().join(&name), &name);
        match Postgres::machine_at(&directory).await {
            Ok(server) => Some(Self {
                server: Some(server),
                directory,
            }),
            Err(error) => {
                eprintln!("skipped: a Postgres of one's own: {error}");
                None
            }
        }
    }

    /// The server.
    pub(crate) fn server(&self) -> &Postgres {
        self.server.as_ref().expect("it runs between restarts")
    }

    fn postmaster(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.server().pid().unwrap()).unwrap())
    }

    /// Stops it at once, without a checkpoint, and starts it again, recovering.
    pub(crate) async fn crash_and_restart(&mut self) {
        kill(self.postmaster(), Signal::SIGQUIT).unwrap();
        let directory = self.directory.clone();
        drop(self.server.take());
        self.server = Some(Postgres::machine_at(&directory).await.expect("it recovers"));
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        drop(self.server.take());
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
