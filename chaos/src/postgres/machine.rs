//! A server from binaries: `initdb` once, then `postgres` as a child process on a free loopback
//! port.
//!
//! The server can be ended by any signal and started again on its port with its data. A last will
//! ends it if the harness is killed. It must not run with fsync off.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::sleep;

mod base;
mod clock;
mod disk;
mod error;
mod initdb;
mod predecessor;
mod server;

use super::account::Account;
use super::binaries::Binaries;
use crate::host::free_port;
use crate::host::log_tail::log_tail;
use base::Base;
pub(super) use base::Place;
pub(super) use clock::MovableClock;
pub(super) use disk::SmallDisk;
use error::MachineError;
use initdb::{ROLE, check_version, initdb};
pub(super) use predecessor::live_holder;
use predecessor::wait_for_predecessor;
use server::{Launch, Server};

/// Limit of concurrent connections: several workers, each with its pools, and the harness.
const CONNECTIONS_MAX: u32 = 200;
/// The same limit for a dedicated server. It is lower, because a fault opens all connections.
const OWN_CONNECTIONS_MAX: u32 = 80;
/// Maximum number of starts. A start fails if another program takes the port first, or if processes
/// of a killed server still use the data.
const STARTS_MAX: usize = 8;
/// Pause between two starts.
const START_RETRY_DELAY: Duration = Duration::from_millis(250);

/// A server from binaries with its data. The server may have ended.
#[derive(Debug)]
pub(super) struct Cluster {
    binaries: Binaries,
    account: Option<Account>,
    base: PathBuf,
    data: PathBuf,
    log: PathBuf,
    kept: bool,
    port: u16,
    password: String,
    connections_max: u32,
    /// Unmounted after the server has ended and before the directory is removed.
    disk: Option<SmallDisk>,
    /// The clock of the server, if it can be moved.
    clock: Option<MovableClock>,
    server: Option<Server>,
}

impl Cluster {
    pub(super) async fn start(binaries: &Binaries, place: Place) -> Result<Self, MachineError> {
        let account = Account::for_server().map_err(MachineError::Account)?;
        let (connections_max, small_disk, clock_library) = match &place {
            Place::Own { small_disk, clock_library } => {
                (OWN_CONNECTIONS_MAX, *small_disk, clock_library.clone())
            }
            Place::Temporary | Place::Kept(_) => (CONNECTIONS_MAX, false, None),
        };
        let base = Base::prepare(place, account.as_ref())?;
        let password = base.password(account.as_ref())?;
        let (path, kept) = (base.path.clone(), base.kept);
        // From here on, dropping the cluster removes the directory.
        base.hand_over();
        let mut cluster = Self {
            binaries: binaries.clone(),
            account,
            data: path.join("data"),
            log: path.join("log"),
            base: path,
            kept,
            port: 0,
            password,
            connections_max,
            disk: None,
            clock: None,
            server: None,
        };
        if small_disk {
            let disk = SmallDisk::mount(&cluster.base.join("disk"), cluster.account.as_ref())?;
            cluster.data = disk.path().join("data");
            cluster.disk = Some(disk);
        }
        if let Some(library) = clock_library {
            cluster.clock = Some(MovableClock::create(library, &cluster.base)?);
        }
        if cluster.data.join("PG_VERSION").is_file() {
            check_version(binaries, &cluster.data)?;
            wait_for_predecessor(&cluster.data).await?;
        } else {
            initdb(binaries, cluster.account.as_ref(), &cluster.base, &cluster.data).await?;
        }
        cluster.launch(|_| free_port()).await?;
        Ok(cluster)
    }

    /// Starts a server that has ended on the same port and data. Postgres runs crash recovery
    /// first.
    pub(super) async fn restart(&mut self) -> Result<(), MachineError> {
        drop(self.server.take());
        wait_for_predecessor(&self.data).await?;
        self.launch(|port| port).await
    }

    async fn launch(&mut self, port: impl Fn(u16) -> u16) -> Result<(), MachineError> {
        let mut last = String::new();
        for _ in 0..STARTS_MAX {
            self.port = port(self.port);
            let mut server = Server::launch(&Launch {
                binaries: &self.binaries,
                account: self.account.as_ref(),
                base: &self.base,
                data: &self.data,
                log: &self.log,
                kept: self.kept,
                disk: self.disk.as_ref().map(SmallDisk::path),
                clock: self.clock.as_ref(),
                port: self.port,
                connections_max: self.connections_max,
            })?;
            match server.wait_ready(&self.admin_url()).await {
                Ok(()) => {
                    self.server = Some(server);
                    return Ok(());
                }
                Err(reason) => last = reason,
            }
            drop(server);
            sleep(START_RETRY_DELAY).await;
        }
        Err(MachineError::Start { reason: last, log: log_tail(&self.log) })
    }

    pub(super) fn admin_url(&self) -> String {
        let (password, port) = (&self.password, self.port);
        format!("postgresql://{ROLE}:{password}@127.0.0.1:{port}/postgres")
    }

    pub(super) fn data_dir(&self) -> &Path {
        &self.data
    }

    pub(super) fn log(&self) -> &Path {
        &self.log
    }

    /// Returns the postmaster's process id, or `None` if this harness has ended the server.
    pub(super) fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Server::pid)
    }

    pub(super) fn disk(&self) -> Option<&SmallDisk> {
        self.disk.as_ref()
    }

    pub(super) fn clock(&mut self) -> Option<&mut MovableClock> {
        self.clock.as_mut()
    }

    pub(super) fn account_name(&self) -> &str {
        self.account.as_ref().map_or("this user", |account| &account.name)
    }

    /// Returns true if the postmaster has ended for any reason.
    pub(super) fn has_ended(&mut self) -> bool {
        self.server.as_mut().is_none_or(Server::has_ended)
    }

    /// Sends a signal to the postmaster and waits until it has ended.
    pub(super) async fn end_by(&mut self, signal: Signal) -> Result<(), MachineError> {
        let Some(mut server) = self.server.take() else {
            return Ok(());
        };
        server.signal(signal);
        server.wait_end().await
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.server.take());
        drop(self.disk.take());
        if !self.kept {
            let _removed = std::fs::remove_dir_all(&self.base);
        }
    }
}
