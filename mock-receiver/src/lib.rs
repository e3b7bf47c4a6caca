//! A chaotic webhook endpoint that verifies every signature and keeps a journal of every request.
//!
//! It is the other side of the wire: the demo's target, the harness's receivers and the sink of the
//! load figures. It shares no code with the dispatcher, so that a mistake in signing or in
//! answering cannot cancel itself out. It never decides what a request ought to have been: it
//! writes down what arrived, plays the behavior that its script names, and writes down how that
//! ended.
//!
//! Reading order: [`script`] (which behavior a request gets), [`behavior`] (what it does on the
//! wire), [`verify`] (the second opinion on signatures), [`journal`] (the receipts), then the
//! server itself.

pub mod behavior;
pub mod config;
pub mod health;
pub mod journal;
mod peer;
mod request;
mod route;
pub mod script;
mod server;
pub mod verify;
mod wire;

pub use behavior::{Behavior, BehaviorError, Framing, RetryAfter};
pub use journal::{
    Counts, Ending, Journal, Moment, Observer, Receipt, SignatureCheck, UncheckedReason,
};
pub use script::{Script, Seen};
pub use server::Receiver;
pub use verify::{InvalidReason, Secrets, SecretsError};
