//! A name server that says nothing takes the slots of the names that it should know, and no more.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::{api, failures, told};
use crate::support::app::{App, until};
use crate::support::db;
use crate::support::fixture::Endpoint;
use crate::support::names::NameServer;
use crate::support::process::Processes;
use crate::support::story::outcomes;

const KNOWN: &str = "known.test";
const SILENT: &str = "http://silent.test/";

/// A server that knows one name, and how many other questions it let pass.
async fn silent_but_for_one() -> Option<(NameServer, Arc<AtomicUsize>)> {
    let asked = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&asked);
    let names = NameServer::start(move |name, _| {
        if name == KNOWN {
            return Some(vec![Ipv4Addr::LOCALHOST]);
        }
        count.fetch_add(1, Ordering::SeqCst);
        None
    });
    Some((names.await?, asked))
}

async fn accept_silent(api: &App, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(api.accept("1", SILENT).await);
    }
    ids
}

/// Accepts an event for the known name and one that needs no lookup, and waits until both are delivered, at the first attempt.
async fn others_are_delivered(api: &App, healthy: &Endpoint) {
    let literal = healthy.url(1);
    let named = literal.replace("127.0.0.1", KNOWN);
    let ids = [
        api.accept("1", &literal).await,
        api.accept("1", &named).await,
    ];
    for id in &ids {
        assert_eq!(outcomes(&told(api, id, "delivered").await), ["delivered"]);
    }
}

// Ten times as many events as there are slots. The others are delivered while none of those has timed out.
#[tokio::test]
async fn a_name_that_no_server_answers_for_does_not_stop_those_that_are_known() {
    let Some((names, asked)) = silent_but_for_one().await else {
        return;
    };
    let healthy = Endpoint::answering(200).await;
    let database = db::database().await;
    let api = api(&database).await;
    let stuck = accept_silent(&api, 80).await;
    let own = [
        ("MAX_IN_FLIGHT", "8"),
        ("MAX_IN_FLIGHT_PER_HOST", "4"),
        ("HTTP_TIMEOUT", "60"),
    ];
    let mut processes = Processes::new(names.system());
    processes.start("resolving", &database, &own).await;
    until("the silent name is being looked up", || async {
        asked.load(Ordering::SeqCst) > 0
    })
    .await;
    others_are_delivered(&api, &healthy).await;
    for id in &stuck {
        assert_eq!(api.event(id).await["attempts"], json!([]));
    }
    api.stop().await;
}

// No attempt's end ends its lookup, which holds a thread; of those there are 512. Once more attempts than that have been
// given up, a name that is known must still find a thread.
#[tokio::test]
async fn attempts_given_up_at_a_silent_name_keep_no_thread_from_others() {
    let Some((names, _)) = silent_but_for_one().await else {
        return;
    };
    let healthy = Endpoint::answering(200).await;
    let database = db::database().await;
    let api = api(&database).await;
    accept_silent(&api, 200).await;
    let own = [("HTTP_TIMEOUT", "0.5"), ("MAX_ATTEMPTS", "1000")];
    let mut processes = Processes::new(names.system());
    processes.start("resolving", &database, &own).await;
    until("more were given up than there are threads", || async {
        failures(&api.pool).await > 600
    })
    .await;
    others_are_delivered(&api, &healthy).await;
    api.stop().await;
}
