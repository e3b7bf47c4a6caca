//! Operations on one event over the API and over SQL: its payload, cancel and replay.
//!
//! A cancel ends an event, and nothing that happens later changes it. A replay makes a finished
//! event pending, at most once per round that a caller has seen.

use dispatcher::Role;
use dispatcher::event::{Disposition, EventId, Outcome, Settled};
use dispatcher::store::{Operated, Store};
use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use mock_receiver::Behavior;
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use sqlx::Connection;

use crate::support::app::{App, until};
use crate::support::db;
use crate::support::fixture::{Bench, Endpoint, settlement};
use crate::support::view::{assert_is_consistent, outcomes, time};

/// Posts to a route of one event, without a body if `body` is empty.
async fn operate(app: &App, id: &str, operation: &str, body: &'static str) -> Response {
    let request = app.client.post(app.url(&format!("/events/{id}/{operation}")));
    request.body(body).send().await.unwrap()
}

/// Requires the status and returns the body.
async fn with_status(response: Response, status: u16) -> Value {
    let found = response.status();
    let body: Value = response.json().await.unwrap();
    assert_eq!(found, status, "{body}");
    body
}

#[tokio::test]
async fn payload_is_returned_byte_for_byte() {
    let app = App::over(&db::database().await, Role::Api, &[]).await;
    let payload = r#"{ "b":1.0,  "a":"é\u00e9", "n":0.10 }"#;
    let id = app.accept(payload, "https://example.com/hook").await;
    let response = app.get(&format!("/events/{id}/payload")).await;
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.bytes().await.unwrap(), payload.as_bytes());
    app.stop().await;
}

#[tokio::test]
async fn event_that_does_not_exist_has_no_operations() {
    let app = App::over(&db::database().await, Role::Api, &[]).await;
    let unknown = EventId::fresh().to_string();
    for id in [unknown.as_str(), "1", "%ff"] {
        with_status(app.get(&format!("/events/{id}/payload")).await, 404).await;
        for operation in ["cancel", "replay"] {
            let problem = with_status(operate(&app, id, operation, "").await, 404).await;
            assert_eq!(problem["type"], "urn:webhook-dispatcher:not-found");
        }
    }
    app.stop().await;
}

#[tokio::test]
async fn operations_require_a_key() {
    let app = App::over(&db::database().await, Role::Api, &[("API_KEYS", "k")]).await;
    let id = EventId::fresh().to_string();
    with_status(app.get(&format!("/events/{id}/payload")).await, 401).await;
    with_status(operate(&app, &id, "cancel", "").await, 401).await;
    with_status(operate(&app, &id, "replay", "").await, 401).await;
    app.stop().await;
}

#[tokio::test]
async fn cancelled_event_is_never_sent() {
    let database = db::database().await;
    let endpoint = Endpoint::responding_with(200).await;
    let api = App::over(&database, Role::Api, &[]).await;
    let id = api.accept("1", &endpoint.url(1)).await;
    for _repeated in 0..2 {
        let body = with_status(operate(&api, &id, "cancel", "").await, 200).await;
        let members = (&body["id"], &body["status"], &body["reason"], &body["in_flight"]);
        assert_eq!(members, (&json!(id), &json!("dead"), &json!("cancelled"), &json!(false)));
    }
    // Events of one target are claimed in the order of their due times.
    let worker = App::over(&database, Role::Worker, &[]).await;
    let later = api.accept("2", &endpoint.url(2)).await;
    api.event_with_status(&later, "delivered").await;
    assert_eq!(endpoint.journal.receipts().len(), 1);
    let event = api.event(&id).await;
    assert_eq!((&event["attempts"], &event["attempt_count"]), (&json!([]), &json!(0)));
    assert!(time(&event["finished_at"]).is_some() && event["next_retry_at"].is_null(), "{event}");
    worker.stop().await;
    api.stop().await;
}

// The receiver responds with 200 after the cancel. The result must not change the event.
#[tokio::test]
async fn cancel_of_an_open_attempt_says_that_it_is_in_flight() {
    let app = App::start(&[]).await;
    let endpoint = Endpoint::responding_after(200, 700).await;
    let id = app.accept("1", &endpoint.url(1)).await;
    until("the request is at the receiver", || async { endpoint.journal.open_requests() == 1 })
        .await;
    let open = app.event(&id).await;
    assert!(time(&open["lease"]["until"]).is_some_and(|until| until > chrono::Utc::now()));
    let body = with_status(operate(&app, &id, "cancel", "").await, 200).await;
    assert_eq!((&body["status"], &body["in_flight"]), (&json!("dead"), &json!(true)));
    until("the receiver has responded", || async { endpoint.journal.open_requests() == 0 }).await;
    let lost = "webhook_lost_leases_total 1";
    until("the worker discards the result", || async {
        app.get("/metrics").await.text().await.unwrap().contains(lost)
    })
    .await;
    let event = app.event(&id).await;
    assert_eq!((&event["status"], &event["reason"]), (&json!("dead"), &json!("cancelled")));
    assert_eq!((outcomes(&event), &event["lease"]), (vec!["abandoned"], &Value::Null));
    app.stop().await;
}

#[tokio::test]
async fn finished_event_cannot_be_cancelled() {
    let app = App::start(&[]).await;
    let endpoint =
        Endpoint::start(|seen| Behavior::answer(if seen.ordinal == Some(1) { 200 } else { 410 }))
            .await;
    for (ordinal, status) in [(1, "delivered"), (2, "dead")] {
        let id = app.accept("1", &endpoint.url(ordinal)).await;
        let before = app.event_with_status(&id, status).await;
        let problem = with_status(operate(&app, &id, "cancel", "").await, 409).await;
        assert_eq!(problem["type"], "urn:webhook-dispatcher:wrong-state");
        assert_eq!(app.event(&id).await, before);
    }
    app.stop().await;
}

#[tokio::test]
async fn replayed_event_has_all_its_attempts_again() {
    let app = App::start(&[("MAX_ATTEMPTS", "2")]).await;
    let endpoint =
        Endpoint::start(|seen| Behavior::answer(if seen.arrival < 4 { 500 } else { 200 })).await;
    let id = app.accept("1", &endpoint.url(1)).await;
    let dead = app.event_with_status(&id, "dead").await;
    assert_eq!((&dead["round"], &dead["replayable"]), (&json!(0), &json!(true)));
    let body = with_status(operate(&app, &id, "replay", r#"{"round":0}"#).await, 202).await;
    let members = (&body["id"], &body["status"], &body["round"]);
    assert_eq!(members, (&json!(id), &json!("pending"), &json!(1)));
    // The third attempt fails. With the failures of the first round, the event would be dead.
    let event = app.event_with_status(&id, "delivered").await;
    assert_is_consistent(&event);
    assert_eq!(outcomes(&event), ["rejected", "rejected", "rejected", "delivered"]);
    assert_eq!((&event["round"], &event["reason"]), (&json!(1), &Value::Null));
    // A delivered event is sent again, too.
    with_status(operate(&app, &id, "replay", "{}").await, 202).await;
    app.event_where(&id, "sent again", |event| event["attempt_count"] == 5).await;
    app.event_with_status(&id, "delivered").await;
    app.stop().await;
}

#[tokio::test]
async fn replay_of_an_old_round_or_of_a_pending_event_is_refused() {
    let app = App::over(&db::database().await, Role::Api, &[]).await;
    let id = app.accept("1", "https://example.com/hook").await;
    with_status(operate(&app, &id, "replay", "").await, 409).await;
    with_status(operate(&app, &id, "cancel", "").await, 200).await;
    let problem = with_status(operate(&app, &id, "replay", r#"{"round":1}"#).await, 409).await;
    assert!(problem["detail"].as_str().unwrap().contains("round 0"), "{problem}");
    for body in ["1", "{\"round\":\"0\"}", "{\"round\":0.5}", "{\"rounds\":0}", "{", "[]"] {
        let problem = with_status(operate(&app, &id, "replay", body).await, 400).await;
        assert_eq!(problem["type"], "urn:webhook-dispatcher:malformed-body", "{body}");
    }
    assert_eq!(app.event(&id).await["round"], 0);
    app.stop().await;
}

#[tokio::test]
async fn concurrent_replays_of_one_round_are_one_replay() {
    let app = App::over(&db::database().await, Role::Api, &[]).await;
    let id = app.accept("1", "https://example.com/hook").await;
    operate(&app, &id, "cancel", "").await;
    let replays = (0..8).map(|_| operate(&app, &id, "replay", r#"{"round":0}"#));
    let mut statuses: Vec<_> = join_all(replays).await.iter().map(Response::status).collect();
    statuses.sort();
    assert_eq!(statuses[0], StatusCode::ACCEPTED);
    assert_eq!(statuses[1..], [StatusCode::CONFLICT; 7]);
    assert_eq!(app.event(&id).await["round"], 1);
    app.stop().await;
}

// Each event ends in exactly one way, and the client was told which one.
#[tokio::test]
async fn cancel_races_the_settle() {
    let app = App::start(&[]).await;
    let endpoint = Endpoint::responding_with(200).await;
    let (app, endpoint) = (&app, &endpoint);
    let races = (0..60).map(|ordinal| async move {
        let id = app.accept("1", &endpoint.url(ordinal)).await;
        let response = operate(app, &id, "cancel", "").await;
        (id, response.status())
    });
    let mut cancelled = 0;
    for (id, status) in stream::iter(races).buffered(4).collect::<Vec<_>>().await {
        let wanted = if status == StatusCode::OK { "dead" } else { "delivered" };
        let event = app.event_with_status(&id, wanted).await;
        let expected = if wanted == "dead" { StatusCode::OK } else { StatusCode::CONFLICT };
        assert_eq!(status, expected, "{event:#}");
        cancelled += usize::from(wanted == "dead");
    }
    assert!(cancelled > 0, "no cancel came before the settle");
}

async fn finished(bench: &Bench) -> EventId {
    let id = bench.accept(1).await[0];
    let claim = bench.claim_one().await;
    let settled = settlement(&claim, Outcome::Delivered { status: 200 }, Disposition::Delivered);
    assert_eq!(bench.store.settle(vec![settled]).await.unwrap(), [Settled::Now]);
    id
}

// The token of the cancelled attempt must not settle the attempt of a later round.
#[tokio::test]
async fn result_from_before_a_replay_changes_nothing() {
    let bench = Bench::new().await;
    let id = bench.accept(1).await[0];
    let old = bench.claim_one().await;
    let cancelled = bench.store.cancel(id).await.unwrap().unwrap();
    assert!(cancelled.is_done && cancelled.in_flight);
    let replayed = bench.store.replay(id, Some(0)).await.unwrap();
    let expected = Operated {
        id,
        is_done: true,
        status: "pending".to_owned(),
        reason: None,
        round: 1,
        in_flight: false,
    };
    assert_eq!(replayed, Some(expected));
    let new = bench.claim_one().await;
    assert_eq!((new.key.number, new.failure_count), (2, 0));
    let late = settlement(&old, Outcome::Delivered { status: 200 }, Disposition::Delivered);
    assert_eq!(bench.store.settle(vec![late]).await.unwrap(), [Settled::LeaseLost]);
    assert!(bench.holds(id, "status = 'pending' and lease_token is not null").await);
    assert_eq!(bench.attempts(id).await, [(1, "abandoned".to_owned())]);
}

#[tokio::test]
async fn operations_by_sql_belong_to_the_transaction_of_the_caller() {
    let bench = Bench::new().await;
    let id = finished(&bench).await;
    let mut connection = sqlx::PgConnection::connect(&bench.url).await.unwrap();
    for (end, round) in [("rollback", 0), ("commit", 1)] {
        sqlx::raw_sql("begin").execute(&mut connection).await.unwrap();
        let replay = "select is_done from webhook_replay($1)";
        let replay = sqlx::query_scalar::<_, bool>(replay).bind(id.0);
        assert!(replay.fetch_one(&mut connection).await.unwrap());
        sqlx::raw_sql(end).execute(&mut connection).await.unwrap();
        assert!(bench.holds(id, if round == 0 { "round = 0" } else { "round = 1" }).await);
    }
    assert_eq!(bench.claim_one().await.key.id, id);
}
