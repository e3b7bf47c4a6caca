//! `API_KEYS`: `/events` requires a key, and health and metrics do not.

use super::{GOOD, api, problem, stored};
use crate::support::app::id_of;
use crate::support::db;
use crate::support::process::Processes;

/// Two keys and a third, with blanks around the commas that the parser removes.
const KEYS: &[(&str, &str)] = &[("API_KEYS", "alpha-1 ,\tbeta,2"), ("MAX_BODY_BYTES", "1000")];

#[tokio::test]
async fn every_key_is_accepted() {
    let app = api(KEYS).await;
    for shown in ["Bearer alpha-1", "Bearer beta", "bearer 2", "BEARER beta"] {
        let response = app.post_with(&[("authorization", shown)], GOOD).await;
        assert_eq!(response.status(), 202, "{shown}");
        let id = id_of(response).await;
        let read = app.client.get(app.url(&format!("/events/{id}")));
        let read = read.header("authorization", "Bearer beta").send().await.unwrap();
        assert_eq!(read.status(), 200);
        assert_eq!(
            app.get(&format!("/events/{id}")).await.status(),
            401,
            "an event id is not a key"
        );
    }
    app.stop().await;
}

#[tokio::test]
async fn wrong_or_missing_key_returns_401_and_stores_nothing() {
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
        let headers: Vec<_> = shown.map(|shown| ("authorization", shown)).into_iter().collect();
        let response = app.post_with(&headers, GOOD).await;
        assert_eq!(response.status(), 401, "{shown:?}");
        assert!(response.headers()["www-authenticate"].to_str().unwrap().starts_with("Bearer"));
        problem(response).await;
    }
    let as_query = app.client.post(app.url("/events?access_token=beta&api_key=beta"));
    let as_query = as_query.header("x-api-key", "beta").body(GOOD).send().await.unwrap();
    assert_eq!(as_query.status(), 401);
    let far_too_much = app.post("x".repeat(4 << 20)).await;
    assert_eq!(far_too_much.status(), 401, "the key is checked before the body");
    assert_eq!(stored(&app).await, 0);
    app.stop().await;
}

#[tokio::test]
async fn health_and_metrics_require_no_key() {
    let app = api(KEYS).await;
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(app.get(path).await.status(), 200, "{path}");
    }
    app.stop().await;
}

#[tokio::test]
async fn without_api_keys_every_client_is_served() {
    let app = api(&[]).await;
    assert_eq!(app.post(GOOD).await.status(), 202);
    let response = app.post_with(&[("authorization", "Bearer x")], GOOD).await;
    assert_eq!(response.status(), 202);
    app.stop().await;
}

// An open `POST /events` signs any payload. If other machines can reach it, the start logs a
// warning.
#[tokio::test]
async fn public_bind_without_api_keys_logs_a_warning() {
    let database = db::database().await;
    let mut processes = Processes::plain();
    let everywhere = [0, 0, 0, 0];
    processes.start_on(everywhere, "open", &database, &[]).await;
    let keys = [("API_KEYS", "secret")];
    processes.start_on(everywhere, "keyed", &database, &keys).await;
    processes.start("local", &database, &[]).await;
    let warned = |name| {
        let log = processes.log(name);
        log.lines().any(|line| line.contains("WARN") && line.contains("API_KEYS"))
    };
    assert_eq!(["open", "keyed", "local"].map(warned), [true, false, false]);
}
