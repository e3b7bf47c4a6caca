//! Shared fixtures: one Postgres server, a new database for each test, dispatchers and receivers.

pub(crate) mod accounting;
pub(crate) mod app;
pub(crate) mod db;
pub(crate) mod fixture;
pub(crate) mod gated;
pub(crate) mod names;
pub(crate) mod process;
pub(crate) mod raw;
pub(crate) mod tables;
pub(crate) mod view;
