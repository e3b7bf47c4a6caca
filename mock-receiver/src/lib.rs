//! A chaotic webhook endpoint that verifies every signature and keeps a journal of every request.
//!
//! It is the target of the demo, of the harness and of the benchmarks. It shares no code with the
//! dispatcher, so that one mistake cannot hide in both. It does not judge requests: it records a
//! request, responds with the behavior from its script, and records the ending.
//!
//! Reading order: [`script`] (chooses the behavior of a request), [`behavior`] (responds on the raw
//! socket), [`verify`] (checks signatures), [`journal`] (keeps receipts), then the server.

pub mod behavior;
mod check;
pub mod config;
pub mod demo;
mod ending;
pub mod health;
pub mod journal;
mod peer;
mod request;
mod route;
pub mod script;
mod server;
pub mod verify;
mod wire;

pub use behavior::form::BehaviorError;
pub use behavior::{Behavior, Framing, RetryAfter, Then};
pub use check::{InvalidReason, SignatureCheck, UncheckedReason};
pub use ending::Ending;
pub use journal::{Counts, Journal, Moment, Observer, Receipt};
pub use script::{Script, Seen};
pub use server::Receiver;
pub use verify::{Secrets, SecretsError};
