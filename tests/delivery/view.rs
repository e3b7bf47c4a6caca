//! `GET /events/{id}` while an event is under way, between its attempts, and after its end.

use chaos::links::to_database;
use chaos::proxy::Control;
use dispatcher::Role;
use insta::assert_json_snapshot;
use mock_receiver::Behavior;
use serde_json::{Value, json};

use super::{ended, sent};
use crate::support::app::{App, PATIENCE, until};
use crate::support::db;
use crate::support::fixture::Endpoint;
use crate::support::story::{assert_is_consistent, attempts, outcomes, time};

#[tokio::test]
async fn an_attempt_under_way_is_counted_and_not_yet_shown() {
    let app = App::start(&[
        ("HTTP_TIMEOUT", "3"),
        ("BACKOFF_BASE_SECONDS", "100"),
        ("BACKOFF_CAP_SECONDS", "100"),
    ])
    .await;
    let endpoint = Endpoint::start(|_| Behavior::Hang { hold_ms: 60_000 }).await;
    let id = app.accept("1", &endpoint.url(1)).await;
    until("it is at the receiver", || async {
        endpoint.journal.open_requests() == 1
    })
    .await;
    let event = app.event(&id).await;
    assert_is_consistent(&event);
    assert_eq!(
        (&event["status"], &event["reason"]),
        (&json!("pending"), &Value::Null)
    );
    assert_eq!(event["attempt_count"], 1);
    assert_eq!(event["next_retry_at"], Value::Null, "it holds a lease");
    assert_eq!(event["attempts"], json!([]));

    let event = app
        .event_once(&id, "settled", |event| event["attempts"] != json!([]))
        .await;
    assert_is_consistent(&event);
    assert_eq!(
        (&event["status"], outcomes(&event)),
        (&json!("pending"), vec!["timeout"])
    );
    assert_eq!(event["next_retry_at"], attempts(&event)[0]["next_retry_at"]);
    assert!(time(&event["next_retry_at"]).is_some_and(|due| due > chrono::Utc::now()));
    assert_eq!(event["finished_at"], Value::Null);
    let took = attempts(&event)[0]["duration_ms"].as_i64().unwrap();
    assert!(
        (2_900..30_000).contains(&took),
        "{took} ms under a deadline of 3 s"
    );
    app.stop().await;
}

#[tokio::test]
async fn every_member_of_a_view_is_there_and_named_as_in_the_contract() {
    let app = App::start(&[("MAX_ATTEMPTS", "3")]).await;
    let endpoint = Endpoint::start(|seen| match seen.arrival {
        1 => Behavior::answer(500),
        2 => Behavior::CloseBeforeAnswer { after_ms: 0 },
        _ => Behavior::TruncatedBody { status: 200 },
    })
    .await;
    let event = sent(&app, &endpoint.url(1)).await;
    assert_json_snapshot!("dead_event", event, {
        ".id" => "[id]", ".target_url" => "[url]", ".created_at" => "[time]",
        ".finished_at" => "[time]", ".attempts[].started_at" => "[time]",
        ".attempts[].duration_ms" => "[ms]", ".attempts[0].next_retry_at" => "[time]",
        ".attempts[1].next_retry_at" => "[time]", ".attempts[1:].error" => "[words]",
    });
    app.stop().await;
}

// The claim waits on its way to the database for longer than the attempt takes. Whoever counts the attempt's begin from when
// the claim was sent puts it behind its own end.
#[tokio::test]
async fn a_claim_that_was_slow_to_reach_the_database_puts_no_attempt_into_the_future() {
    let endpoint =
        Endpoint::start(|seen| Behavior::answer(if seen.arrival == 1 { 500 } else { 200 })).await;
    let database = db::database().await;
    let (link, url) = to_database(&database).unwrap();
    let api = App::over(&database, Role::Api, &[]).await;
    let worker = App::over(&url, Role::Worker, &[]).await;
    for ordinal in 0..3 {
        link.set(Control::Stall);
        let id = api.accept("1", &endpoint.url(ordinal)).await;
        // One connection asks who is absent, which takes one at a time; so what another asks is a look for due events.
        let two_ask = link.sees(PATIENCE, |effects| effects.stalled.len() >= 2);
        assert!(two_ask.await, "{:?}", link.effects());
        link.set(Control::Pass);
        assert_eq!(outcomes(&ended(&api, &id).await), ["rejected", "delivered"]);
    }
    worker.stop().await;
    api.stop().await;
}

#[tokio::test]
async fn an_id_is_found_in_either_case() {
    let app = App::start(&[]).await;
    let endpoint = Endpoint::answering(200).await;
    let event = sent(&app, &endpoint.url(1)).await;
    let id = event["id"].as_str().unwrap();
    assert_eq!(app.event(&id.to_uppercase()).await, event);
    app.stop().await;
}
