//! `POST /events/batch`: one commit for all items, one result for each, in order.

use std::fmt::Display;

use mock_receiver::Behavior;
use reqwest::Response;
use serde_json::{Value, json};

use super::{TARGET, api, assert_is_problem, problem, stored};
use crate::support::app::App;
use crate::support::fixture::Endpoint;

async fn post(app: &App, body: impl Into<reqwest::Body>) -> Response {
    let request = app.client.post(app.url("/events/batch"));
    request.header("content-type", "application/json").body(body).send().await.unwrap()
}

/// Posts items that are valid as a batch and returns the result of each.
async fn results(app: &App, items: impl Display) -> Vec<Value> {
    let response = post(app, format!(r#"{{"events":{items}}}"#)).await;
    assert_eq!(response.status(), 200);
    let mut body: Value = response.json().await.unwrap();
    let Value::Array(data) = body["data"].take() else { panic!("{body}") };
    for item in &data {
        let status = u16::try_from(item["status"].as_u64().unwrap()).unwrap();
        assert_eq!(item["id"].is_string(), status == 202, "{item}");
        if status != 202 {
            assert_is_problem(&item["problem"], status.try_into().unwrap());
        }
    }
    data
}

fn statuses(results: &[Value]) -> Vec<u64> {
    results.iter().map(|item| item["status"].as_u64().unwrap()).collect()
}

fn item(payload: usize) -> Value {
    json!({"payload": payload, "target_url": TARGET})
}

fn keyed(payload: usize, key: &str) -> Value {
    json!({"payload": payload, "target_url": TARGET, "idempotency_key": key})
}

async fn payload(app: &App, result: &Value) -> String {
    let id = result["id"].as_str().unwrap();
    app.get(&format!("/events/{id}/payload")).await.text().await.unwrap()
}

#[tokio::test]
async fn largest_batch_is_one_commit_in_order() {
    let app = api(&[]).await;
    let items: Vec<_> = (0..1_000)
        .map(|n| if n % 2 == 0 { item(n) } else { keyed(n, &format!("{}", 2_000 - n)) })
        .collect();
    let results = results(&app, &Value::from(items)).await;
    assert_eq!(statuses(&results), [202; 1_000]);
    for n in [0, 1, 2, 499, 998, 999] {
        assert_eq!(payload(&app, &results[n]).await, n.to_string());
    }
    let commits = "select count(*), count(distinct xmin::text) from webhook_events";
    let counts: (i64, i64) = sqlx::query_as(commits).fetch_one(&app.pool).await.unwrap();
    assert_eq!(counts, (1_000, 1));
    app.stop().await;
}

#[tokio::test]
async fn items_are_delivered_with_their_own_bytes() {
    let app = App::start(&[]).await;
    let endpoint = Endpoint::start(|_| Behavior::answer(200)).await;
    let item = |n| {
        format!(r#"{{ "payload" : {{"b":1.0,  "n":{n}}}, "target_url":"{}"}}"#, endpoint.url(n))
    };
    let body = format!(r#"{{"events":[{}, {}]}}"#, item(1), item(2));
    let body: Value = post(&app, body).await.json().await.unwrap();
    for (n, item) in (1..).zip(body["data"].as_array().unwrap()) {
        app.event_with_status(item["id"].as_str().unwrap(), "delivered").await;
        assert_eq!(payload(&app, item).await, format!(r#"{{"b":1.0,  "n":{n}}}"#));
    }
    app.stop().await;
}

#[tokio::test]
async fn refused_item_does_not_affect_the_others() {
    let app = api(&[]).await;
    let items = json!([
        item(0),
        {"payload": 1},
        {"target_url": TARGET},
        {"payload": 1, "target_url": "http://10.0.0.1/"},
        {"payload": 1, "targetUrl": TARGET},
        {"payload": 1, "target_url": 7},
        {"payload": "deep", "target_url": TARGET},
        keyed(1, ""),
        keyed(1, "a b"),
        {"payload": 1, "target_url": TARGET, "idempotency_key": 7},
        7,
        item(1),
    ]);
    let deep = format!("{}{}", "[".repeat(129), "]".repeat(129));
    let items = items.to_string().replace("\"deep\"", &deep);
    let results = results(&app, &items).await;
    let expected = [202, 422, 400, 422, 400, 400, 422, 400, 400, 400, 400, 202];
    assert_eq!(statuses(&results), expected);
    assert_eq!(results[4]["problem"]["field"], "targetUrl");
    assert_eq!(results[8]["problem"]["field"], "idempotency_key");
    assert_eq!(stored(&app).await, 2);
    assert_eq!(payload(&app, &results[11]).await, "1");
    app.stop().await;
}

#[tokio::test]
async fn keys_of_items_are_those_of_single_posts() {
    let app = api(&[]).await;
    let items = json!([keyed(1, "b"), keyed(2, "a"), item(3), keyed(1, "b"), keyed(9, "a")]);
    let first = results(&app, &items).await;
    assert_eq!(statuses(&first), [202, 202, 202, 202, 409]);
    assert_eq!(first[0]["id"], first[3]["id"], "the same key twice in a batch");
    let again = results(&app, &items).await;
    assert_eq!(statuses(&again), [202, 202, 202, 202, 409]);
    for n in [0, 1, 3] {
        assert_eq!(again[n]["id"], first[n]["id"]);
    }
    assert_ne!(again[2]["id"], first[2]["id"], "an item without a key");
    let single = app.post_with(&[("idempotency-key", "a")], item(2).to_string()).await;
    let single: Value = single.json().await.unwrap();
    assert_eq!(single["id"], first[1]["id"]);
    assert_eq!(stored(&app).await, 4);
    app.stop().await;
}

// A trigger of the operator refuses one row.
#[tokio::test]
async fn row_that_postgres_refuses_does_not_affect_the_others() {
    let app = api(&[]).await;
    let trigger = "
        create function refuse() returns trigger language plpgsql as $$
        begin
            if convert_from(new.payload, 'UTF8') = '5' then raise exception 'refused'; end if;
            return new;
        end $$;
        create trigger refuse before insert on webhook_events for each row execute function refuse()";
    sqlx::raw_sql(trigger).execute(&app.pool).await.unwrap();
    let items: Vec<_> = (0..9).map(item).collect();
    let results = results(&app, &Value::from(items)).await;
    assert_eq!(statuses(&results), [202, 202, 202, 202, 202, 503, 202, 202, 202]);
    for n in [0, 4, 6, 8] {
        assert_eq!(payload(&app, &results[n]).await, n.to_string());
    }
    assert_eq!(stored(&app).await, 8);
    app.stop().await;
}

#[tokio::test]
async fn request_of_another_form_is_refused_as_a_whole() {
    let app = api(&[("MAX_BODY_BYTES", "100000")]).await;
    let too_many: Vec<_> = (0..1_001).map(item).collect();
    let too_many = json!({"events": too_many}).to_string();
    let cases = [
        ("", 400),
        ("[]", 400),
        ("{}", 400),
        (r#"{"events":{}}"#, 400),
        (r#"{"events":[],"more":1}"#, 400),
        (r#"{"events":[],"events":[]}"#, 400),
        (r#"{"events":[]} 1"#, 400),
        (too_many.as_str(), 400),
    ];
    for (body, status) in cases {
        let response = post(&app, body.to_owned()).await;
        assert_eq!(response.status(), status, "{body:.60}");
        problem(response).await;
    }
    let large = json!({"events": [{"payload": "x".repeat(100_000)}]}).to_string();
    assert_eq!(post(&app, large).await.status(), 413);
    let plain = app.client.post(app.url("/events/batch")).body("{}").send().await.unwrap();
    assert_eq!(plain.status(), 415);
    assert_eq!(results(&app, &json!([])).await, [] as [Value; 0]);
    assert_eq!(stored(&app).await, 0);
    app.stop().await;
}

#[tokio::test]
async fn batch_requires_a_key() {
    let app = api(&[("API_KEYS", "k")]).await;
    assert_eq!(post(&app, r#"{"events":[]}"#).await.status(), 401);
    app.stop().await;
}
