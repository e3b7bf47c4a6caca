//! Shared parts of the benchmarks: two sides of a comparison, a running dispatcher under load, and
//! the figures.
//!
//! Machines differ and may be busy, so no test asserts a figure. Each rate has a reference that was
//! measured alternately with it.

pub mod args;
pub mod backlog;
pub mod conditions;
pub mod cost;
pub mod figures;
pub mod http_pair;
pub mod load;
pub mod ours;
pub mod path;
pub mod pgbench;
pub mod plain;
pub mod processes;
pub mod scale;
pub mod sides;
pub mod stand;
pub mod steady;
pub mod synthetic;
pub mod table;
