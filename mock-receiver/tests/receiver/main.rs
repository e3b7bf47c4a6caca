//! The receiver from the outside: raw bytes over loopback sockets, and its pure parts.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

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
