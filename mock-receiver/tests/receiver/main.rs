//! Tests of the receiver over loopback sockets with raw bytes, and of its pure parts.
#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod client;

mod behaviors;
mod bounds;
mod connections;
mod hostile;
mod journal;
mod script;
mod settings;
mod signature;
mod stopping;
