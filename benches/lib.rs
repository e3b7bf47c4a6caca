//! What the benchmarks share: two sides of a comparison over one Postgres, a running dispatcher with load on it, and the
//! figures that come of it.
//!
//! A figure here is never a bound that a test asserts: machines differ and are busy. So every rate stands beside a
//! reference that was measured in turns with it.

pub mod backlog;
pub mod figures;
pub mod load;
pub mod ours;
pub mod plain;
pub mod processes;
pub mod sides;
pub mod stand;
pub mod steady;
pub mod told;
