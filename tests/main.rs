//! The proofs, in reading order: what comes in, how it is claimed, how it goes out, that nothing is lost, that the harness
//! would notice, and that the house is in order.

#![expect(clippy::unwrap_used, reason = "tests")]

mod audit;
mod claim;
mod delivery;
mod environment;
mod guard;
mod ingest;
mod model;
mod no_loss;
mod oracle;
mod outage;
mod reclaim;
mod recovery;
mod roles;
mod sabotage;
mod schema;
mod simulation;
mod support;
mod tidy;
