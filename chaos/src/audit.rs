//! The audit: each committed transition of each event, written by a trigger of the harness.
//!
//! A row of the audit commits with the change that it records (`audit.sql`). A follower reads the
//! rows during the run and writes them to the history one reading later. A transition may therefore
//! appear late in the history, by at most [`LATE_US_MAX`] while Postgres answers, but never before
//! the receipt that caused it. Only the order of one event's transitions is meaningful.
//!
//! The trigger does not see a settle with a stale token, because such a settle changes no row.

mod follower;
mod reader;

pub use follower::{Audits, LATE_US_MAX};
pub use reader::{Audit, AuditError, Installation};
