//! A DNS server that does not respond for some names. Other targets must not be affected.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::{api, event_with, failures};
use crate::support::app::{App, until};
use crate::support::db;
use crate::support::fixture::Endpoint;
use crate::support::names::NameServer;
use crate::support::process::Processes;
use crate::support::view::outcomes;

const KNOWN: &str = "known.test";
const SILENT: &str = "http://silent.test/";

/// A server that responds only for [`KNOWN`], and the number of its other queries.
async fn silent_except_for_known() -> Option<(NameServer, Arc<AtomicUsize>)> {
    let queries = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&queries);
    let names = NameServer::start(move |name, _| {
        if name == KNOWN {
            return Some(vec![Ipv4Addr::LOCALHOST]);
        }
        count.fetch_add(1, Ordering::SeqCst);
        None
    });
    Some((names.await?, queries))
}

async fn accept_silent(api: &App, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(api.accept("1", SILENT).await);
    }
    ids
}

/// Posts events for other ports of the silent name. Each port counts as a host, because a host
/// whose attempts time out gets two at a time.
async fn accept_silent_ports(api: &App, count: usize) {
    for port in 1..=count {
        let target = format!("{}:{port}/", SILENT.trim_end_matches('/'));
        api.accept("1", &target).await;
    }
}

/// Posts an event for the known name and one for a literal address, and waits until both are
/// delivered by their first attempt.
async fn assert_others_are_delivered(api: &App, healthy: &Endpoint) {
    let literal = healthy.url(1);
    let named = literal.replace("127.0.0.1", KNOWN);
    let ids = [api.accept("1", &literal).await, api.accept("1", &named).await];
    for id in &ids {
        assert_eq!(outcomes(&event_with(api, id, "delivered").await), ["delivered"]);
    }
}

// There are ten times more events for the silent name than permits. Other events are delivered
// before any of these attempts times out.
#[tokio::test]
async fn silent_name_does_not_block_known_names() {
    let Some((names, queries)) = silent_except_for_known().await else {
        return;
    };
    let healthy = Endpoint::responding_with(200).await;
    let database = db::database().await;
    let api = api(&database).await;
    let stuck = accept_silent(&api, 80).await;
    let own = [("MAX_IN_FLIGHT", "8"), ("MAX_IN_FLIGHT_PER_HOST", "4"), ("HTTP_TIMEOUT", "60")];
    let mut processes = Processes::new(names.system());
    processes.start("resolving", &database, &own).await;
    until("a lookup of the silent name has started", || async {
        queries.load(Ordering::SeqCst) > 0
    })
    .await;
    assert_others_are_delivered(&api, &healthy).await;
    for id in &stuck {
        assert_eq!(api.event(id).await["attempts"], json!([]));
    }
    api.stop().await;
}

// The end of an attempt does not end its lookup, which occupies one of 512 threads. After more than
// 512 timeouts, a known name must still get a thread.
#[tokio::test]
async fn timed_out_lookups_do_not_use_up_all_threads() {
    let Some((names, _)) = silent_except_for_known().await else {
        return;
    };
    let healthy = Endpoint::responding_with(200).await;
    let database = db::database().await;
    let api = api(&database).await;
    accept_silent_ports(&api, 200).await;
    let own = [("HTTP_TIMEOUT", "0.5"), ("MAX_ATTEMPTS", "1000")];
    let mut processes = Processes::new(names.system());
    processes.start("resolving", &database, &own).await;
    until("more lookups timed out than there are threads", || async {
        failures(&api.pool).await > 600
    })
    .await;
    assert_others_are_delivered(&api, &healthy).await;
    api.stop().await;
}
