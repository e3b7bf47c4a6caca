//! Obtains the Postgres servers of a run.
//!
//! If a planned fault stops the server, the main section gets a server that only this run uses. The
//! events at default settings stay on a server without faults, so that they show the default gaps.

use std::collections::BTreeMap;

use super::args::RunArgs;
use crate::environment::Server;
use crate::history::op::Section;
use crate::nemesis::Schedule;
use crate::postgres::{OwnParts, OwnServer, Postgres};

/// The servers of a run and its databases on them.
pub(super) struct Stores {
    pub(super) databases: BTreeMap<Section, String>,
    /// The server of the main section.
    pub(super) server: Server,
    /// The server for the other databases. Dropping it stops a server that the harness started.
    pub(super) shared: Option<Postgres>,
}

impl Stores {
    pub(super) async fn obtain(args: &RunArgs, schedule: &Schedule) -> anyhow::Result<Stores> {
        let mut server = server(args, schedule).await;
        let has_defaults = schedule.section(Section::Defaults).next().is_some();
        let shared = if matches!(server, Server::Shared { .. }) || has_defaults {
            Some(Postgres::obtain(args.wanted()).await?)
        } else {
            None
        };
        let mut databases = BTreeMap::new();
        if let Server::Own(own) = &mut server {
            databases.insert(Section::Main, own.create_database("chaos_main").await?);
        }
        if let Some(shared) = &shared {
            if let Server::Shared { .. } = server {
                databases.insert(Section::Main, shared.create_database("chaos_main").await?);
            }
            if has_defaults {
                let url = shared.create_database("chaos_defaults").await?;
                databases.insert(Section::Defaults, url);
            }
        }
        Ok(Stores { databases, server, shared })
    }

    /// Returns the sources of the servers in one line.
    pub(super) fn origin(&self) -> String {
        let own = match &self.server {
            Server::Own(own) => Some(format!("{} (the run's own)", own.postgres().origin())),
            Server::Shared { .. } => None,
        };
        let shared = self.shared.as_ref().map(|shared| shared.origin().to_owned());
        let both: Vec<String> = own.into_iter().chain(shared).collect();
        both.join("; ")
    }
}

/// Starts a server for this run only if a planned fault stops the server.
async fn server(args: &RunArgs, schedule: &Schedule) -> Server {
    if !schedule.needs_own_postgres() {
        let reason = "no planned fault stops the server".to_owned();
        return Server::Shared { reason };
    }
    let parts = OwnParts { small_disk: schedule.needs_small_disk(), clock: schedule.needs_clock() };
    match OwnServer::start(&args.wanted(), parts).await {
        Ok(own) => Server::Own(own),
        Err(error) => Server::Shared { reason: error.to_string() },
    }
}
