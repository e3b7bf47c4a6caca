//! Parts of this machine that both [`crate::postgres`] and [`crate::system`] use: the container
//! engine, loopback ports, cleanup after a killed harness, and the end of a log file.
//!
//! These parts are separate so that neither module imports the other for them. They must not
//! depend on a dispatcher, a database or a run.

#[cfg(feature = "docker")]
pub(crate) mod engine;
pub(crate) mod last_will;
pub(crate) mod log_tail;
#[cfg(feature = "docker")]
mod owner;
mod port;

pub use port::free_port;
