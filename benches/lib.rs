//! Shared parts of the benchmarks: two sides of a comparison, a running dispatcher under load, and
//! the figures.
//!
//! Machines differ and may be busy, so no test asserts a figure. Each rate has a reference that was
//! measured alternately with it.

pub mod backlog;
pub mod figures;
pub mod load;
pub mod ours;
pub mod plain;
pub mod processes;
pub mod sides;
pub mod stand;
pub mod steady;
pub mod synthetic;
