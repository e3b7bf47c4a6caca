//! Saboteurs: running dispatchers with one misbehavior each, which one checker must detect.
//!
//! They run under the same runner, receivers and checkers as the real dispatcher, so a checker that
//! misses one is noticed. The base is a small fake dispatcher that keeps events in memory. Without
//! a misbehavior it is honest, and every checker must pass it. It is no model of the real
//! dispatcher.

mod budget;
mod exact;
mod fake;
mod lies;
mod misbehavior;
pub mod table;

pub use budget::Budget;
pub use exact::Exact;
pub use fake::FakeDispatcher;
pub use lies::{SABOTEURS, Saboteur};
pub use misbehavior::Misbehavior;
