//! The simulation: the dispatcher's own worker, retry rule and signature over a model of its store
//! and a scripted wire, in virtual time, on one thread.
//!
//! What: [`schedule`] is drawn from a seed, [`run`] plays it and gives a history, the same checkers as
//! on the real tier judge it, [`shrink`] makes a failing one small. Why: tens of thousands of
//! interleavings a minute, each repeatable from one number. It must not touch a socket, a file or the
//! clock of the machine, and it is the only part of the harness that links the dispatcher.

mod client;
pub mod fault;
pub mod goals;
mod host;
pub mod hunt;
pub mod matrix;
pub mod model;
pub mod mutant;
pub mod print;
pub mod run;
pub mod schedule;
pub mod shrink;
pub mod soak;
mod store;
mod wire;
mod world;

pub use run::{Ran, Simulator};
pub use schedule::{SimSchedule, Size};
