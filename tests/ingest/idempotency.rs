//! `Idempotency-Key`: one key creates one event, also for concurrent and for later posts.

use std::collections::{BTreeMap, BTreeSet};

use dispatcher::Role;
use futures_util::future::join_all;
use reqwest::{Response, StatusCode};
use serde_json::json;

use super::{TARGET, problem, stored};
use crate::support::app::{App, id_of, until};
use crate::support::db;
use crate::support::fixture::Endpoint;

async fn post(app: &App, key: &str, body: &str) -> Response {
    app.post_with(&[("idempotency-key", key)], body.to_owned()).await
}

async fn accepted(app: &App, key: &str, body: &str) -> String {
    let response = post(app, key, body).await;
    assert_eq!(response.status(), StatusCode::ACCEPTED, "{key}: {body}");
    id_of(response).await
}

async fn api(database: &str, own: &[(&str, &str)]) -> App {
    App::over(database, Role::Api, own).await
}

#[tokio::test]
async fn same_post_with_the_same_key_returns_the_same_event() {
    let app = api(&db::database().await, &[("TARGET_URL", TARGET)]).await;
    let body = format!(r#"{{"payload":{{"a": 1}},"target_url":"{TARGET}"}}"#);
    let id = accepted(&app, "k", &body).await;
    // Only the bytes of the payload and the target are compared.
    let around = format!(" {{ \"target_url\" : \"{TARGET}\" , \"payload\" : {{\"a\": 1}} }}\n");
    let escaped = body.replace("https://", "https:\\/\\/");
    for same in [&body, &around, &escaped] {
        assert_eq!(accepted(&app, "k", same).await, id);
    }
    let absent = accepted(&app, "absent", r#"{"payload":1}"#).await;
    let null = r#"{"payload":1,"target_url":null}"#;
    assert_eq!(accepted(&app, "absent", null).await, absent, "null is treated as absent");
    assert_ne!(accepted(&app, "K", &body).await, id, "keys are case-sensitive");
    assert_eq!(stored(&app).await, 3);
    app.stop().await;
}

#[tokio::test]
async fn different_post_with_the_same_key_returns_409() {
    let app = api(&db::database().await, &[("TARGET_URL", TARGET)]).await;
    let given = json!({"payload": {"a": 1}, "target_url": TARGET}).to_string();
    let id = accepted(&app, "given", &given).await;
    let absent = accepted(&app, "absent", r#"{"payload":{"a":1}}"#).await;
    let conflicts = [
        ("given", given.replace(r#"{"a":1}"#, r#"{"a": 1}"#)),
        ("given", given.replace(r#"{"a":1}"#, r#"{"a":1.0}"#)),
        ("given", given.replace(r#"{"a":1}"#, "null")),
        ("given", given.replace(TARGET, "https://example.com/other")),
        ("given", given.replace(TARGET, "https://EXAMPLE.com/hook")),
        ("given", r#"{"payload":{"a":1}}"#.to_owned()),
        // The default target, but given explicitly: this is a different request.
        ("absent", given.clone()),
    ];
    for (key, body) in conflicts {
        let response = post(&app, key, &body).await;
        assert_eq!(response.status(), 409, "{key}: {body}");
        assert_eq!(problem(response).await["field"], "Idempotency-Key");
    }
    assert_eq!(accepted(&app, "given", &given).await, id);
    assert_eq!(accepted(&app, "absent", r#"{"payload":{"a":1}}"#).await, absent);
    assert_eq!(stored(&app).await, 2);
    app.stop().await;
}

#[tokio::test]
async fn changed_default_target_does_not_break_a_retry() {
    let database = db::database().await;
    let before = api(&database, &[("TARGET_URL", "https://example.com/old")]).await;
    let id = accepted(&before, "k", r#"{"payload":1}"#).await;
    before.stop().await;
    let after = api(&database, &[("TARGET_URL", "https://example.com/new")]).await;
    assert_eq!(accepted(&after, "k", r#"{"payload":1}"#).await, id);
    let target = "https://example.com/old";
    assert_eq!(after.event(&id).await["target_url"], target);
    assert_eq!(stored(&after).await, 1);
    after.stop().await;
}

#[tokio::test]
async fn key_is_kept_after_the_event_is_final() {
    let app = App::start(&[("MAX_ATTEMPTS", "1")]).await;
    for (status, end) in [(200, "delivered"), (500, "dead")] {
        let endpoint = Endpoint::responding_with(status).await;
        let body = json!({"payload": 1, "target_url": endpoint.url(1)}).to_string();
        let id = accepted(&app, end, &body).await;
        let event = app.event_with_status(&id, end).await;
        assert_eq!(accepted(&app, end, &body).await, id);
        assert_eq!(app.event(&id).await, event, "the second post changed the event");
        assert_eq!(endpoint.journal.receipts().len(), 1);
    }
    app.stop().await;
}

#[tokio::test]
async fn a_hundred_posts_with_one_key_create_one_event() {
    let database = db::database().await;
    let endpoint = Endpoint::responding_with(200).await;
    let apps = [App::over(&database, Role::Serve, &[]).await, api(&database, &[]).await];
    for round in 0..5 {
        let key = format!("key-{round}");
        let body = json!({"payload": round, "target_url": endpoint.url(round)}).to_string();
        let posts = (0..100).map(|n| accepted(&apps[n % 2], &key, &body));
        let ids: BTreeSet<_> = join_all(posts).await.into_iter().collect();
        assert_eq!(ids.len(), 1);
        apps[0].event_with_status(ids.first().unwrap(), "delivered").await;
    }
    assert_eq!(stored(&apps[0]).await, 5);
    assert_eq!(endpoint.journal.receipts().len(), 5);
    for app in apps {
        app.stop().await;
    }
}

// Ten payloads compete for a key. One wins: its posts get the id of the event, the others get 409.
#[tokio::test]
async fn one_of_different_concurrent_posts_wins_the_key() {
    let database = db::database().await;
    let apps = [api(&database, &[]).await, api(&database, &[]).await];
    let post = |n: usize| {
        let body = json!({"payload": n % 10, "target_url": TARGET}).to_string();
        let app = &apps[n / 10 % 2];
        async move {
            let response = post(app, "k", &body).await;
            let id = if response.status() == StatusCode::ACCEPTED {
                Some(id_of(response).await)
            } else {
                assert_eq!(response.status(), StatusCode::CONFLICT);
                None
            };
            (n % 10, id)
        }
    };
    let mut by_payload = BTreeMap::<_, BTreeSet<_>>::new();
    for (payload, id) in join_all((0..100).map(post)).await {
        by_payload.entry(payload).or_default().insert(id);
    }
    assert!(by_payload.values().all(|ids| ids.len() == 1), "{by_payload:?}");
    let won = by_payload.values().filter(|ids| !ids.contains(&None)).count();
    assert_eq!((won, stored(&apps[0]).await), (1, 1));
    for app in apps {
        app.stop().await;
    }
}

// A foreign transaction holds the key without a commit. Posts with this key wait for it. Posts with
// other keys do not wait, whatever the number of waiting posts.
#[tokio::test]
async fn posts_that_wait_for_a_key_do_not_delay_others() {
    let app = api(&db::database().await, &[("ACCEPT_CONNECTIONS", "2")]).await;
    let mut other = app.pool.begin().await.unwrap();
    let insert = "insert into webhook_events (id, target_url, target_given, payload, idempotency_key, status, round,
        attempt_count, failure_count, abandon_count, next_retry_at, created_at)
        values (gen_random_uuid(), '', true, '', 'k', 'pending', 0, 0, 0, 0, now(), now())";
    sqlx::query(insert).execute(&mut *other).await.unwrap();
    let body = json!({"payload": 1, "target_url": TARGET}).to_string();
    let waiting = join_all((0..20).map(|_| post(&app, "k", &body)));
    let others = async {
        let blocked = "select count(*) from pg_stat_activity
            where datname = current_database() and wait_event_type = 'Lock'";
        until("a post waits for the key", || async {
            let count = sqlx::query_scalar::<_, i64>(blocked).fetch_one(&app.pool).await;
            count.unwrap() > 0
        })
        .await;
        for n in 0..10 {
            assert_eq!(app.post(body.clone()).await.status(), StatusCode::ACCEPTED);
            accepted(&app, &format!("other-{n}"), &body).await;
        }
        other.rollback().await.unwrap();
    };
    let (responses, ()) = tokio::join!(waiting, others);
    for response in responses {
        // A post that waited too long gets 503. No post gets a wrong result.
        let status = response.status();
        assert!(matches!(status.as_u16(), 202 | 503), "{status}");
    }
    let id = accepted(&app, "k", &body).await;
    assert_eq!(accepted(&app, "k", &body).await, id);
    assert_eq!(stored(&app).await, 21);
    app.stop().await;
}
