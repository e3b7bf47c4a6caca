//! The Postgres of a run: one server for all of it, or one of the run's own where a fault of the plan takes
//! the whole server down.
//!
//! Events at the default settings stay on a server that no fault touches: what they show is what the
//! dispatcher does by itself.

use std::collections::BTreeMap;

use super::args::RunArgs;
use crate::history::op::Section;
use crate::nemesis::Fault;
use crate::postgres::{OwnServer, Postgres};
use crate::schedule::Schedule;

/// The servers of a run and its databases on them.
pub(super) struct Stores {
    pub(super) databases: BTreeMap<Section, String>,
    /// The server of the main section, when it is the run's own; or why not.
    pub(super) own_server: Result<OwnServer, String>,
    /// Whatever else is needed; it lives as long as this does.
    pub(super) shared: Option<Postgres>,
}

impl Stores {
    pub(super) async fn obtain(args: &RunArgs, schedule: &Schedule) -> anyhow::Result<Stores> {
        let mut own_server = own_server(args, schedule).await;
        let has_defaults = schedule.section(Section::Defaults).next().is_some();
        let shared = if own_server.is_err() || has_defaults {
            Some(Postgres::obtain(args.wanted()).await?)
        } else {
            None
        };
        let mut databases = BTreeMap::new();
        if let Ok(own) = &mut own_server {
            databases.insert(Section::Main, own.create_database("chaos_main").await?);
        }
        if let Some(shared) = &shared {
            if own_server.is_err() {
                databases.insert(Section::Main, shared.create_database("chaos_main").await?);
            }
            if has_defaults {
                let url = shared.create_database("chaos_defaults").await?;
                databases.insert(Section::Defaults, url);
            }
        }
        Ok(Stores {
            databases,
            own_server,
            shared,
        })
    }

    /// Where the servers came from, in one line.
    pub(super) fn origin(&self) -> String {
        let own = self.own_server.as_ref().ok();
        let own = own.map(|own| format!("{} (the run's own)", own.postgres().origin()));
        let shared = self
            .shared
            .as_ref()
            .map(|shared| shared.origin().to_owned());
        let both: Vec<String> = own.into_iter().chain(shared).collect();
        both.join("; ")
    }
}

async fn own_server(args: &RunArgs, schedule: &Schedule) -> Result<OwnServer, String> {
    if !schedule.needs_own_postgres() {
        return Err("no fault of this plan takes the server down".to_owned());
    }
    let mut faults = schedule.faults.iter();
    let small_disk = faults.any(|planned| matches!(planned.fault, Fault::FillDisk(_)));
    let own = OwnServer::start(&args.wanted(), small_disk).await;
    own.map_err(|error| error.to_string())
}
