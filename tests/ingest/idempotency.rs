//! One key, one event: whatever is posted under it, how often, when, and by how many at once.

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
    app.post_with(&[("idempotency-key", key)], body.to_owned())
        .await
}

async fn accepted(app: &App, key: &str, body: &str) -> String {
    let answer = post(app, key, body).await;
    assert_eq!(answer.status(), StatusCode::ACCEPTED, "{key}: {body}");
    id_of(answer).await
}

async fn api(database: &str, own: &[(&str, &str)]) -> App {
    App::over(database, Role::Api, own).await
}

#[tokio::test]
async fn the_same_post_under_the_same_key_is_the_same_event() {
    let app = api(&db::database().await, &[("TARGET_URL", TARGET)]).await;
    let body = format!(r#"{{"payload":{{"a": 1}},"target_url":"{TARGET}"}}"#);
    let id = accepted(&app, "k", &body).await;
    // Only the payload's bytes and the target count, not what is around them.
    let around = format!(" {{ \"target_url\" : \"{TARGET}\" , \"payload\" : {{\"a\": 1}} }}\n");
    let escaped = body.replace("https://", "https:\\/\\/");
    for same in [&body, &around, &escaped] {
        assert_eq!(accepted(&app, "k", same).await, id);
    }
    let absent = accepted(&app, "absent", r#"{"payload":1}"#).await;
    let null = r#"{"payload":1,"target_url":null}"#;
    assert_eq!(
        accepted(&app, "absent", null).await,
        absent,
        "null counts as absent"
    );
    assert_ne!(accepted(&app, "K", &body).await, id, "a key's case counts");
    assert_eq!(stored(&app).await, 3);
    app.stop().await;
}

#[tokio::test]
async fn anything_else_under_the_key_is_409_and_changes_nothing() {
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
        // The target that the default stands for, but given: it is not the same request.
        ("absent", given.clone()),
    ];
    for (key, body) in conflicts {
        let answer = post(&app, key, &body).await;
        assert_eq!(answer.status(), 409, "{key}: {body}");
        assert_eq!(problem(answer).await["field"], "Idempotency-Key");
    }
    assert_eq!(accepted(&app, "given", &given).await, id);
    assert_eq!(
        accepted(&app, "absent", r#"{"payload":{"a":1}}"#).await,
        absent
    );
    assert_eq!(stored(&app).await, 2);
    app.stop().await;
}

#[tokio::test]
async fn a_changed_default_target_breaks_no_honest_retry() {
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
async fn a_key_holds_after_the_event_has_ended() {
    let app = App::start(&[("MAX_ATTEMPTS", "1")]).await;
    for (status, end) in [(200, "delivered"), (500, "dead")] {
        let endpoint = Endpoint::answering(status).await;
        let body = json!({"payload": 1, "target_url": endpoint.url(1)}).to_string();
        let id = accepted(&app, end, &body).await;
        let event = app.event_when(&id, end).await;
        assert_eq!(accepted(&app, end, &body).await, id);
        assert_eq!(app.event(&id).await, event, "and nothing of it has moved");
        assert_eq!(endpoint.journal.receipts().len(), 1);
    }
    app.stop().await;
}

#[tokio::test]
async fn a_hundred_posts_of_one_key_over_two_processes_make_one_event() {
    let database = db::database().await;
    let endpoint = Endpoint::answering(200).await;
    let apps = [
        App::over(&database, Role::Serve, &[]).await,
        api(&database, &[]).await,
    ];
    for round in 0..5 {
        let key = format!("key-{round}");
        let body = json!({"payload": round, "target_url": endpoint.url(round)}).to_string();
        let posts = (0..100).map(|n| accepted(&apps[n % 2], &key, &body));
        let ids: BTreeSet<_> = join_all(posts).await.into_iter().collect();
        assert_eq!(ids.len(), 1);
        apps[0].event_when(ids.first().unwrap(), "delivered").await;
    }
    assert_eq!(stored(&apps[0]).await, 5);
    assert_eq!(endpoint.journal.receipts().len(), 5);
    for app in apps {
        app.stop().await;
    }
}

// Ten payloads race for a key: one of them wins, everybody who posted that one gets its id, and everybody else a 409.
#[tokio::test]
async fn of_different_posts_that_race_for_a_key_one_wins() {
    let database = db::database().await;
    let apps = [api(&database, &[]).await, api(&database, &[]).await];
    let post = |n: usize| {
        let body = json!({"payload": n % 10, "target_url": TARGET}).to_string();
        let app = &apps[n / 10 % 2];
        async move {
            let answer = post(app, "k", &body).await;
            let id = if answer.status() == StatusCode::ACCEPTED {
                Some(id_of(answer).await)
            } else {
                assert_eq!(answer.status(), StatusCode::CONFLICT);
                None
            };
            (n % 10, id)
        }
    };
    let mut by_payload = BTreeMap::<_, BTreeSet<_>>::new();
    for (payload, id) in join_all((0..100).map(post)).await {
        by_payload.entry(payload).or_default().insert(id);
    }
    assert!(
        by_payload.values().all(|ids| ids.len() == 1),
        "{by_payload:?}"
    );
    let won = by_payload
        .values()
        .filter(|ids| !ids.contains(&None))
        .count();
    assert_eq!((won, stored(&apps[0]).await), (1, 1));
    for app in apps {
        app.stop().await;
    }
}

// Somebody else's transaction holds the key, uncommitted: posts of that key wait for it, all others pass, however many wait.
#[tokio::test]
async fn posts_that_wait_for_a_key_hold_up_no_other_post() {
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
            let count = sqlx::query_scalar::<_, i64>(blocked)
                .fetch_one(&app.pool)
                .await;
            count.unwrap() > 0
        })
        .await;
        for n in 0..10 {
            assert_eq!(app.post(body.clone()).await.status(), StatusCode::ACCEPTED);
            accepted(&app, &format!("other-{n}"), &body).await;
        }
        other.rollback().await.unwrap();
    };
    let (answers, ()) = tokio::join!(waiting, others);
    for answer in answers {
        // Whoever waited too long was told to come again; nobody was told anything false.
        let status = answer.status();
        assert!(matches!(status.as_u16(), 202 | 503), "{status}");
    }
    let id = accepted(&app, "k", &body).await;
    assert_eq!(accepted(&app, "k", &body).await, id);
    assert_eq!(stored(&app).await, 21);
    app.stop().await;
}
