//! `API_KEYS`: who may use `/events`, and that health and metrics stay open.

use super::{GOOD, api, problem, stored};
use crate::support::app::id_of;
use crate::support::db;
use crate::support::process::Processes;

/// Blanks round the comma are trimmed.
const KEYS: &[(&str, &str)] = &[
    ("API_KEYS", "alpha-1 ,\tbeta,2"),
    ("MAX_BODY_BYTES", "1000"),
];

#[tokio::test]
async fn each_of_the_keys_opens_events() {
    let app = api(KEYS).await;
    for shown in ["Bearer alpha-1", "Bearer beta", "bearer 2", "BEARER beta"] {
        let answer = app.post_with(&[("authorization", shown)], GOOD).await;
        assert_eq!(answer.status(), 202, "{shown}");
        let id = id_of(answer).await;
        let read = app.client.get(app.url(&format!("/events/{id}")));
        let read = read
            .header("authorization", "Bearer beta")
            .send()
            .await
            .unwrap();
        assert_eq!(read.status(), 200);
        assert_eq!(
            app.get(&format!("/events/{id}")).await.status(),
            401,
            "an id is no key"
        );
    }
    app.stop().await;
}

#[tokio::test]
async fn anything_else_is_401_and_stores_nothing() {
    let app = api(KEYS).await;
    let wrong = [
        "",
        "Bearer",
        "Bearer ",
        "Bearer ,",
        "Bearer alpha",
        "Bearer alpha-12",
        "Bearer ALPHA-1",
        "Bearer alpha-1,beta",
        "Bearer alpha-1 beta",
        "Bearer alpha-1 ,\tbeta,2",
        "Beareralpha-1",
        "Basic alpha-1",
        "Basic YWxwaGEtMQ==",
        "alpha-1",
        "Token beta",
        "é",
    ];
    for shown in wrong.into_iter().map(Some).chain([None]) {
        let headers: Vec<_> = shown
            .map(|shown| ("authorization", shown))
            .into_iter()
            .collect();
        let answer = app.post_with(&headers, GOOD).await;
        assert_eq!(answer.status(), 401, "{shown:?}");
        assert!(
            answer.headers()["www-authenticate"]
                .to_str()
                .unwrap()
                .starts_with("Bearer")
        );
        problem(answer).await;
    }
    let as_query = app
        .client
        .post(app.url("/events?access_token=beta&api_key=beta"));
    let as_query = as_query
        .header("x-api-key", "beta")
        .body(GOOD)
        .send()
        .await
        .unwrap();
    assert_eq!(as_query.status(), 401);
    let far_too_much = app.post("x".repeat(4 << 20)).await;
    assert_eq!(
        far_too_much.status(),
        401,
        "nobody learns a limit without a key"
    );
    assert_eq!(stored(&app).await, 0);
    app.stop().await;
}

#[tokio::test]
async fn health_and_metrics_need_no_key() {
    let app = api(KEYS).await;
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(app.get(path).await.status(), 200, "{path}");
    }
    app.stop().await;
}

#[tokio::test]
async fn without_keys_everybody_is_served() {
    let app = api(&[("API_KEYS", "")]).await;
    assert_eq!(app.post(GOOD).await.status(), 202);
    let answer = app.post_with(&[("authorization", "Bearer x")], GOOD).await;
    assert_eq!(answer.status(), 202);
    app.stop().await;
}

// An open `POST /events` signs whatever it is given: where others can reach it, the start says so.
#[tokio::test]
async fn an_open_bind_without_keys_is_warned_of_at_start_and_one_with_keys_is_not() {
    let database = db::database().await;
    let mut processes = Processes::plain();
    let everywhere = [0, 0, 0, 0];
    processes.start_on(everywhere, "open", &database, &[]).await;
    let keys = [("API_KEYS", "secret")];
    processes
        .start_on(everywhere, "keyed", &database, &keys)
        .await;
    processes.start("local", &database, &[]).await;
    let warned = |name| {
        let log = processes.log(name);
        log.lines()
            .any(|line| line.contains("WARN") && line.contains("API_KEYS"))
    };
    assert_eq!(["open", "keyed", "local"].map(warned), [true, false, false]);
}
