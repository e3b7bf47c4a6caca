//! `GET /events/{id}` during an attempt, between attempts, and after the event is final.

use chaos::links::to_database;
use chaos::proxy::Control;
use dispatcher::Role;
use insta::assert_json_snapshot;
use mock_receiver::Behavior;
use serde_json::{Value, json};

use super::{ended, sent};
use crate::support::app::{App, WAIT_MAX, until};
use crate::support::db;
use crate::support::fixture::Endpoint;
use crate::support::view::{assert_is_consistent, attempts, outcomes, time};

#[tokio::test]
async fn open_attempt_is_counted_and_not_listed() {
    let app = App::start(&[
        ("HTTP_TIMEOUT", "3"),
        ("BACKOFF_BASE_SECONDS", "100"),
        ("BACKOFF_CAP_SECONDS", "100"),
    ])
    .await;
    let endpoint = Endpoint::start(|_| Behavior::Hang { hold_ms: 60_000 }).await;
    let id = app.accept("1", &endpoint.url(1)).await;
    until("the request is at the receiver", || async { endpoint.journal.open_requests() == 1 })
        .await;
    let event = app.event(&id).await;
    assert_is_consistent(&event);
    assert_eq!((&event["status"], &event["reason"]), (&json!("pending"), &Value::Null));
    assert_eq!(event["attempt_count"], 1);
    assert_eq!(event["next_retry_at"], Value::Null, "a leased event has no due time");
    assert_eq!(event["attempts"], json!([]));

    let event = app.event_where(&id, "settled", |event| event["attempts"] != json!([])).await;
    assert_is_consistent(&event);
    assert_eq!((&event["status"], outcomes(&event)), (&json!("pending"), vec!["timeout"]));
    assert_eq!(event["next_retry_at"], attempts(&event)[0]["next_retry_at"]);
    assert!(time(&event["next_retry_at"]).is_some_and(|due| due > chrono::Utc::now()));
    assert_eq!(event["finished_at"], Value::Null);
    let duration_ms = attempts(&event)[0]["duration_ms"].as_i64().unwrap();
    assert!(
        (2_900..30_000).contains(&duration_ms),
        "duration of {duration_ms} ms with a timeout of 3 s"
    );
    app.stop().await;
}

#[tokio::test]
async fn view_has_every_member_of_the_contract() {
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

// The claim waits longer on its way to Postgres than the attempt takes. If the start of the attempt
// were counted from the sending of the claim, it would lie after the end of the attempt.
#[tokio::test]
async fn slow_claim_does_not_start_an_attempt_after_its_end() {
    let endpoint =
        Endpoint::start(|seen| Behavior::answer(if seen.arrival == 1 { 500 } else { 200 })).await;
    let database = db::database().await;
    let (link, url) = to_database(&database).unwrap();
    let api = App::over(&database, Role::Api, &[]).await;
    let worker = App::over(&url, Role::Worker, &[]).await;
    for ordinal in 0..3 {
        link.set(Control::Stall);
        let id = api.accept("1", &endpoint.url(ordinal)).await;
        // One connection reads the absent workers, one call at a time. So the second stalled call
        // is a claim.
        let both_stalled = link.sees(WAIT_MAX, |effects| effects.stalled.len() >= 2);
        assert!(both_stalled.await, "{:?}", link.effects());
        link.set(Control::Pass);
        assert_eq!(outcomes(&ended(&api, &id).await), ["rejected", "delivered"]);
    }
    worker.stop().await;
    api.stop().await;
}

#[tokio::test]
async fn id_is_found_in_upper_and_lower_case() {
    let app = App::start(&[]).await;
    let endpoint = Endpoint::responding_with(200).await;
    let event = sent(&app, &endpoint.url(1)).await;
    let id = event["id"].as_str().unwrap();
    assert_eq!(app.event(&id.to_uppercase()).await, event);
    app.stop().await;
}
