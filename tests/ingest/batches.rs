//! Batches: posts that arrive together share a commit, and one bad row fails only its own post.

use futures_util::future::join_all;
use reqwest::{Response, StatusCode};
use serde_json::json;
use sqlx::{Postgres, Transaction};

use super::{TARGET, api, stored};
use crate::support::app::{App, until};

/// Posts that are stored in one batch, if nothing splits it.
const POSTS: usize = 8;

/// Blocks every insert until the transaction ends.
async fn block(app: &App) -> Transaction<'static, Postgres> {
    let mut blocking = app.pool.begin().await.unwrap();
    let lock = "lock table webhook_events in exclusive mode";
    sqlx::query(lock).execute(&mut *blocking).await.unwrap();
    blocking
}

/// Waits until this number of posts have arrived.
async fn arrived(app: &App, posts: usize) {
    let waiting = format!("webhook_posts_waiting {posts}");
    until("the posts wait for their batch", || async {
        app.get("/metrics").await.text().await.unwrap().lines().any(|line| line == waiting)
    })
    .await;
}

fn body(payload: usize) -> String {
    json!({"payload": payload, "target_url": TARGET}).to_string()
}

/// Sends posts so that all but the first are in one batch, and returns the responses. Post `n` has
/// the payload `n` and the key `key-n` if `has_keys`.
async fn post_together(app: &App, has_keys: bool) -> Vec<Response> {
    // The gauges from SQL need a connection of the API, and are then read again only after 5 s.
    app.get("/metrics").await;
    let blocking = block(app).await;
    let first = app.post(body(0));
    let others = async {
        arrived(app, 1).await;
        let keys: Vec<String> = (0..=POSTS).map(|n| format!("key-{n}")).collect();
        let headers = keys.iter().map(|key| [("idempotency-key", key.as_str())]);
        let headers: Vec<_> = headers.collect();
        let posts = (1..=POSTS)
            .map(|n| app.post_with(if has_keys { &headers[n][..] } else { &[] }, body(n)));
        let posts: Vec<_> = posts.collect();
        let release = async {
            arrived(app, POSTS + 1).await;
            blocking.rollback().await.unwrap();
        };
        let (responses, ()) = tokio::join!(join_all(posts), release);
        responses
    };
    let (first, mut responses) = tokio::join!(first, others);
    responses.insert(0, first);
    responses
}

fn count(responses: &[Response], status: StatusCode) -> usize {
    responses.iter().filter(|response| response.status() == status).count()
}

/// Number of transactions that stored the events.
async fn commits(app: &App) -> i64 {
    let commits = "select count(distinct xmin::text) from webhook_events";
    sqlx::query_scalar(commits).fetch_one(&app.pool).await.unwrap()
}

#[tokio::test]
async fn posts_that_wait_together_share_a_commit() {
    // The first post holds the only connection. The first post with a key waits for it, alone.
    for (has_keys, batches) in [(false, 2), (true, 3)] {
        let app = api(&[("ACCEPT_CONNECTIONS", "1")]).await;
        let responses = post_together(&app, has_keys).await;
        assert_eq!(count(&responses, StatusCode::ACCEPTED), POSTS + 1);
        assert_eq!(stored(&app).await, POSTS as i64 + 1);
        assert_eq!(commits(&app).await, batches, "keys: {has_keys}");
        app.stop().await;
    }
}

// The batch is halved until the refused row is alone.
#[tokio::test]
async fn refused_row_fails_only_its_own_post() {
    for has_keys in [false, true] {
        let app = api(&[]).await;
        let check = "alter table webhook_events
            add constraint refusing check (payload not in ('3', '6'))";
        sqlx::query(check).execute(&app.pool).await.unwrap();
        let responses = post_together(&app, has_keys).await;
        for (n, response) in responses.iter().enumerate() {
            let refused = n == 3 || n == 6;
            assert_eq!(response.status() == StatusCode::ACCEPTED, !refused, "post {n}");
        }
        assert_eq!(count(&responses, StatusCode::SERVICE_UNAVAILABLE), 2);
        assert_eq!(stored(&app).await, POSTS as i64 - 1);
        app.stop().await;
    }
}

// The session of the batch ends before the reply, so nobody knows whether it was committed.
#[tokio::test]
async fn unknown_outcome_of_a_batch_fails_all_of_its_posts() {
    let app = api(&[]).await;
    let trigger = "create function wait() returns trigger language plpgsql as $$ begin
            if new.payload <> '0' then perform pg_advisory_xact_lock(1); end if;
            return new;
        end $$;
        create trigger wait before insert on webhook_events for each row execute function wait()";
    sqlx::raw_sql(trigger).execute(&app.pool).await.unwrap();
    let mut waited_for = app.pool.begin().await.unwrap();
    sqlx::query("select pg_advisory_xact_lock(1)").execute(&mut *waited_for).await.unwrap();
    let end_batch = async {
        let end = "select count(pg_terminate_backend(pid)) from pg_stat_activity
            where datname = current_database() and wait_event = 'advisory'";
        until("the batch waits", || async {
            sqlx::query_scalar::<_, i64>(end).fetch_one(&app.pool).await.unwrap() == 1
        })
        .await;
    };
    let (responses, ()) = tokio::join!(post_together(&app, false), end_batch);
    waited_for.rollback().await.unwrap();
    assert_eq!(responses[0].status(), StatusCode::ACCEPTED);
    assert_eq!(count(&responses, StatusCode::SERVICE_UNAVAILABLE), POSTS);
    assert_eq!(stored(&app).await, 1);
    app.stop().await;
}
