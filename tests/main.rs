//! One test binary for all tests that need Postgres, and for the rules of the source tree.
//!
//! Reading order: `ingest`, `claim`, `reclaim`, `delivery`, `no_loss`, `sabotage`, `simulation`,
//! `tidy`. One binary links once and lets all tests share one Postgres server.

#![expect(clippy::unwrap_used, reason = "tests")]

mod audit;
mod bad_rows;
mod claim;
mod delivery;
mod environment;
mod guard;
mod ingest;
mod model;
mod no_loss;
mod operations;
mod oracle;
mod outage;
mod process;
mod reclaim;
mod recovery;
mod roles;
mod sabotage;
mod schema;
mod sessions;
mod simulation;
mod support;
mod tidy;
