//! A cluster of our own: `initdb` once, then `postgres` as a child process on a free loopback port.
//!
//! It can be stopped in every way that a server can end in and started again on its port and its data.
//! A last will ends it should the harness be killed. It must never run with fsync off.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::sleep;

mod base;
mod disk;
mod error;
mod initdb;
mod predecessor;
mod server;

use super::account::Account;
use super::binaries::Binaries;
use crate::system::free_port;
use crate::system::log_tail;
use base::Base;
pub(super) use disk::SmallDisk;
use error::MachineError;
use initdb::{check_version, initdb};
pub(super) use predecessor::live_holder;
use predecessor::yield_to_predecessor;
use server::{Launch, Server};

/// Role of the cluster's owner.
const ROLE: &str = "postgres";
/// Clients that may be connected at once: several workers, each with its pools, and the harness.
const CONNECTIONS_MAX: u32 = 200;
/// The same where a fault holds them all: few enough to be held soon.
const OWN_CONNECTIONS_MAX: u32 = 80;
/// A port may be taken between its choice and its use, and the last processes of a killed server
/// may still hold the data: so many starts are tried.
const STARTS_TRIED_MAX: usize = 8;
/// Pause between two starts, milliseconds.
const START_PAUSE: Duration = Duration::from_millis(250);

/// Where the data lives and how long.
pub(super) enum Place {
    /// A fresh directory, removed with the server.
    Temporary,
    /// The same, of a run that may take the server down; on a small disk of its own if asked so.
    Own { small_disk: bool },
    /// This directory, which outlives the server.
    Kept(PathBuf),
}

/// A server of our own, running or not.
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
    /// Taken away after the server has ended, before the directory is removed.
    disk: Option<SmallDisk>,
    server: Option<Server>,
}

impl Cluster {
    pub(super) async fn start(binaries: &Binaries, place: Place) -> Result<Self, MachineError> {
        let account = Account::to_drop_to().map_err(MachineError::Account)?;
        let (connections_max, small_disk) = match place {
            Place::Own { small_disk } => (OWN_CONNECTIONS_MAX, small_disk),
            Place::Temporary | Place::Kept(_) => (CONNECTIONS_MAX, false),
        };
        let base = Base::prepare(place, account.as_ref())?;
        let password = base.password(account.as_ref())?;
        let (path, kept) = (base.path.clone(), base.kept);
        // From here on the cluster removes the directory itself.
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
            server: None,
        };
        if small_disk {
            let disk = SmallDisk::mount(&cluster.base.join("disk"), cluster.account.as_ref())?;
            cluster.data = disk.path().join("data");
            cluster.disk = Some(disk);
        }
        if cluster.data.join("PG_VERSION").is_file() {
            check_version(binaries, &cluster.data)?;
            yield_to_predecessor(&cluster.data).await?;
        } else {
            initdb(
                binaries,
                cluster.account.as_ref(),
                &cluster.base,
                &cluster.data,
            )
            .await?;
        }
        cluster.launch(|_| free_port()).await?;
        Ok(cluster)
    }

    /// Starts a server that has ended again, where it was; it recovers first.
    pub(super) async fn start_again(&mut self) -> Result<(), MachineError> {
        drop(self.server.take());
        yield_to_predecessor(&self.data).await?;
        self.launch(|port| port).await
    }

    async fn launch(&mut self, port: impl Fn(u16) -> u16) -> Result<(), MachineError> {
        let mut last = String::new();
        for _ in 0..STARTS_TRIED_MAX {
            self.port = port(self.port);
            let mut server = Server::launch(&Launch {
                binaries: &self.binaries,
                account: self.account.as_ref(),
                base: &self.base,
                data: &self.data,
                log: &self.log,
                kept: self.kept,
                disk: self.disk.as_ref().map(SmallDisk::path),
                port: self.port,
                connections_max: self.connections_max,
            })?;
            match server.wait_ready(&self.admin_url()).await {
                Ok(()) => {
                    self.server = Some(server);
                    return Ok(());
                }
                Err(why) => last = why,
            }
            drop(server);
            sleep(START_PAUSE).await;
        }
        Err(MachineError::Start {
            why: last,
            log: log_tail(&self.log),
        })
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

    /// The postmaster, unless it has ended.
    pub(super) fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Server::pid)
    }

    pub(super) fn disk(&self) -> Option<&SmallDisk> {
        self.disk.as_ref()
    }

    pub(super) fn account_name(&self) -> &str {
        self.account
            .as_ref()
            .map_or("this user", |account| &account.name)
    }

    /// True when the postmaster has ended, by whatever.
    pub(super) fn has_ended(&mut self) -> bool {
        self.server.as_mut().is_none_or(Server::has_ended)
    }

    /// Ends the server by a signal to its postmaster, and waits until that has ended.
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
