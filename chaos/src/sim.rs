//! The simulation: the worker, retry rule and signature of the dispatcher over a model store and a
//! scripted transport, in virtual time on one thread.
//!
//! A seed gives a [`schedule`], [`run`] executes it and records a history, and the checkers of the
//! real tier judge the history. [`shrink`] reduces a failing schedule. One seed always gives the
//! same interleaving. The simulation uses no socket, no file and no real clock. Only this module of
//! the harness imports the dispatcher.

mod client;
mod clock;
mod context;
pub mod failpoint;
pub mod fault;
pub mod goals;
pub mod hunt;
mod inject;
pub(crate) mod kinds;
pub mod matrix;
pub mod model;
pub mod mutant;
mod presence;
pub mod print;
mod process;
pub mod run;
mod running_worker;
pub mod schedule;
mod server;
pub mod shrink;
pub mod soak;
mod state;
mod store;
mod supervisor;
mod wire;

pub use run::{SimResult, Simulator};
pub use schedule::{SimSchedule, Size};
