//! The harness: it runs a webhook dispatcher under faults drawn from a seed, writes down what clients
//! and receivers see, and judges that by pure checkers.
//!
//! Control flow: [`seed`] -> [`schedule`] -> [`runner`] (start, storm, heal, drain, final reads) ->
//! [`history`] -> [`checker`] -> [`report`] -> exit code. The real tier sees HTTP, a process and a
//! database address, never the dispatcher's code, so that it can test another product.

pub mod audit;
pub mod binary;
pub mod checker;
pub mod command;
pub mod hangs;
pub mod history;
pub mod host;
pub mod links;
pub mod nemesis;
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
pub mod system;
pub mod up;
pub mod workload;

use std::time::Duration;

/// An HTTP client as the harness needs it: no redirects, no proxy, nothing repeated on its own.
pub(crate) fn http_client(deadline: Duration) -> reqwest::Client {
    // A second install fails, and then there is a provider, which is all that is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .timeout(deadline)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .build()
        .expect("a client without special settings can be built")
}
