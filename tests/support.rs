//! What the proofs stand on: one Postgres, a fresh database each, a dispatcher in this process, receivers.

pub(crate) mod accounting;
pub(crate) mod app;
pub(crate) mod db;
pub(crate) mod fixture;
pub(crate) mod gated;
pub(crate) mod names;
pub(crate) mod own;
pub(crate) mod process;
pub(crate) mod raw;
pub(crate) mod story;
