//! Load: idle clients, posts without a database, and posts with one key at two processes.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use chaos::links::to_database;
use chaos::proxy::Control;
use dispatcher::{Role, descriptors};
use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use reqwest::{Response, StatusCode};
use serde_json::json;
use sqlx::PgPool;
use tokio::time::timeout;

use super::{GOOD, TARGET, api, stored};
use crate::support::app::{App, WAIT_MAX, id_of, until};
use crate::support::db;
use crate::support::process::Processes;
use crate::support::raw::Connection;

/// Default limit of connections of one process.
const IDLE_CLIENTS: usize = 10_000;

/// Concurrent connects, below the length of the kernel's accept queue.
const CONNECTS_MAX: usize = 100;

// The oldest idle client and one that comes at the limit are both served, and idle clients need
// little memory.
#[tokio::test]
async fn ten_thousand_idle_clients_do_not_block_others() {
    let limit = descriptors::raise_limit().unwrap();
    assert!(limit > IDLE_CLIENTS as u64 + 2_000, "{limit} descriptors are too few for this test");
    let database = db::database().await;
    let mut processes = Processes::of_role("api");
    let address = processes.start("limited", &database, &[]).await;
    let before = processes.resident_kib("limited");
    // One below the limit. At the limit, the process would close the first client, and the test
    // would prove nothing about it.
    let opened = stream::iter(0..IDLE_CLIENTS - 1)
        .map(|_| Connection::open(address))
        .buffer_unordered(CONNECTS_MAX);
    let mut idle: Vec<_> = opened.collect().await;
    let request = format!(
        "POST /events HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{GOOD}",
        GOOD.len()
    );
    let mut late = Connection::open(address).await;
    let mut early = idle.swap_remove(0);
    for client in [&mut late, &mut early] {
        client.send(&request).await;
        assert_eq!(client.response().await.unwrap().status, 202);
    }
    let mut beyond = Connection::open(address).await;
    beyond.send(&request).await;
    assert_eq!(
        beyond.response().await.unwrap().status,
        202,
        "the longest idle client is closed for the new one"
    );
    let grown = processes.resident_kib("limited") - before;
    eprintln!(
        "{IDLE_CLIENTS} idle clients cost {grown} KiB, {} bytes per client",
        grown * 1_024 / IDLE_CLIENTS as u64
    );
    assert!(grown < 16 * IDLE_CLIENTS as u64, "more than 16 KiB per client: {grown} KiB");
    assert_eq!(idle.len(), IDLE_CLIENTS - 2);
}

#[tokio::test]
async fn a_thousand_posts_without_a_database_return_503() {
    descriptors::raise_limit().unwrap();
    let database = db::database().await;
    let (link, url) = to_database(&database).unwrap();
    let app = App::over(&url, Role::Api, &[]).await;
    link.set(Control::Refuse);
    let responses = join_all((0..1_000).map(|_| app.post(GOOD))).await;
    for response in responses {
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(response.headers().contains_key("retry-after"));
    }
    link.set(Control::Pass);
    let direct = db::pool(&database).await;
    let count = sqlx::query_scalar::<_, i64>("select count(*) from webhook_events");
    assert_eq!(count.fetch_one(&direct).await.unwrap(), 0);
    app.stop().await;
}

/// Waits until a statement of a dispatcher waits for a lock.
async fn one_is_blocked(pool: &PgPool) {
    let blocked = "select count(*) from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'";
    until("a post waits for a lock", || async {
        sqlx::query_scalar::<_, i64>(blocked).fetch_one(pool).await.unwrap() > 0
    })
    .await;
}

// The first post waits for a lock, and the others wait for its connection. The database responds.
#[tokio::test]
async fn process_with_all_connections_in_use_is_ready() {
    let app = api(&[("ACCEPT_CONNECTIONS", "1")]).await;
    let mut other = app.pool.begin().await.unwrap();
    let lock = "lock table webhook_events in exclusive mode";
    sqlx::query(lock).execute(&mut *other).await.unwrap();
    let posts = join_all((0..5).map(|_| app.post(GOOD)));
    let ready = async {
        one_is_blocked(&app.pool).await;
        let ready = app.get("/readyz").await.status();
        other.rollback().await.unwrap();
        ready
    };
    let (_, ready) = tokio::join!(posts, ready);
    assert_eq!(ready, StatusCode::OK);
    app.stop().await;
}

// Two processes, and a transaction that holds the key without a commit. A hundred posts with this
// key wait. Posts with other keys do not.
#[tokio::test]
async fn posts_with_one_key_at_two_processes_create_one_event() {
    let database = db::database().await;
    let app = App::over(&database, Role::Api, &[]).await;
    let few = &[("ACCEPT_CONNECTIONS", "2")];
    let mut processes = Processes::of_role("api");
    let addresses = [
        processes.start("one", &database, few).await,
        processes.start("other", &database, few).await,
    ];
    let body = json!({"payload": 1, "target_url": TARGET}).to_string();
    let post = |address: SocketAddr, key: &str| {
        let request = app.client.post(format!("http://{address}/events"));
        let request =
            request.header("content-type", "application/json").header("idempotency-key", key);
        let sent = request.body(body.clone()).send();
        async move { sent.await.expect("the dispatcher responds") }
    };
    let mut holder = app.pool.begin().await.unwrap();
    let insert = "insert into webhook_events (id, target_url, target_given, payload, idempotency_key, status, round,
        attempt_count, failure_count, abandon_count, next_retry_at, created_at)
        values (gen_random_uuid(), '', true, '', 'k', 'pending', 0, 0, 0, 0, now(), now())";
    sqlx::query(insert).execute(&mut *holder).await.unwrap();
    // A 503 is repeated, as a client would: the posts with the key come all the time, and a busy
    // machine may return 503 to any post.
    let post = &post;
    let again = |address, key: String| async move {
        loop {
            if let Some(id) = id_if_accepted(post(address, &key).await).await {
                return id;
            }
        }
    };
    let waiting = join_all((0..100).map(|n| again(addresses[n % 2], "k".to_owned())));
    let others = async {
        one_is_blocked(&app.pool).await;
        for n in 0..10 {
            for address in addresses {
                let passed = timeout(WAIT_MAX, again(address, format!("other-{n}"))).await;
                assert!(passed.is_ok(), "delayed by posts with a key that is locked");
            }
        }
        holder.rollback().await.unwrap();
    };
    let (waited, ()) = tokio::join!(waiting, others);
    let ids: BTreeSet<_> = waited.into_iter().collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(stored(&app).await, 11);
    app.stop().await;
}

async fn id_if_accepted(response: Response) -> Option<String> {
    match response.status() {
        StatusCode::ACCEPTED => Some(id_of(response).await),
        status => {
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
            None
        }
    }
}
