//! The chaos harness: runs a webhook dispatcher under seeded faults and judges its history.
//!
//! Control flow: [`seed`] -> [`schedule`] -> [`runner`] (start, storm, heal, drain, final reads) ->
//! [`history`] -> [`checker`] -> [`report`] -> exit code. Clients and receivers record their
//! observations, and pure checkers judge them. Runs of real processes use HTTP, signals and a
//! database URL, never the dispatcher's code, so that the harness can test another product.

pub mod audit;
pub mod binary;
pub mod checker;
pub mod command;
pub mod environment;
pub mod fault;
pub mod history;
pub mod host;
pub mod links;
pub mod nemesis;
pub mod pair;
pub mod plan;
pub mod postgres;
pub mod profile;
pub mod proxy;
pub mod recorder;
pub mod report;
pub mod runner;
pub mod saboteur;
pub mod schedule;
pub mod seed;
pub mod sim;
pub mod switch;
pub mod system;
pub mod up;
pub mod workload;

use std::time::Duration;

/// Returns an HTTP client without redirects, proxies and retries: each request is one observation.
pub(crate) fn http_client(deadline: Duration) -> reqwest::Client {
    http_client_builder(deadline).build().expect("these settings are valid")
}

/// The settings of [`http_client`].
pub(crate) fn http_client_builder(deadline: Duration) -> reqwest::ClientBuilder {
    // A second call fails, because the provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .timeout(deadline)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
}
