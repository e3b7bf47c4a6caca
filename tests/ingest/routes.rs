//! Unknown paths, unknown methods, and ids without an event.

use reqwest::Method;

use super::{GOOD, problem, stored};
use crate::support::app::App;
use crate::support::raw::Connection;

#[tokio::test]
async fn unknown_path_returns_a_404_problem() {
    let app = App::start(&[]).await;
    let paths = ["/", "/event", "/events/", "/EVENTS", "/events/a/b", "/metrics/x", "/healthz"];
    for path in paths {
        for method in [Method::GET, Method::POST] {
            let request = app.client.request(method, app.url(path)).body(GOOD);
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 404, "{path}");
            problem(response).await;
        }
    }
    assert_eq!(stored(&app).await, 0);
    app.stop().await;
}

#[tokio::test]
async fn wrong_method_returns_405_with_the_allowed_methods() {
    let app = App::start(&[]).await;
    let event = "/events/01890000-0000-7000-8000-000000000000";
    let cases = [
        (Method::GET, "/events", "POST"),
        (Method::PUT, "/events", "POST"),
        (Method::DELETE, "/events", "POST"),
        (Method::PATCH, "/events", "POST"),
        (Method::OPTIONS, "/events", "POST"),
        (Method::POST, event, "GET"),
        (Method::DELETE, event, "GET"),
        (Method::PUT, event, "GET"),
        (Method::POST, "/livez", "GET"),
        (Method::POST, "/readyz", "GET"),
        (Method::POST, "/metrics", "GET"),
    ];
    for (method, path, takes) in cases {
        let response = app.client.request(method.clone(), app.url(path)).send().await.unwrap();
        assert_eq!(response.status(), 405, "{method} {path}");
        let allow = response.headers().get("allow").map(|value| value.to_str().unwrap().to_owned());
        assert!(
            allow.is_some_and(|allow| allow.contains(takes)),
            "{method} {path}: no Allow header"
        );
        problem(response).await;
    }
    app.stop().await;
}

// The UUID parser accepts three more forms. The API returns one form and accepts only this one.
#[tokio::test]
async fn id_is_accepted_only_in_the_form_that_was_returned() {
    let app = super::api(&[]).await;
    let id = app.accept("1", super::TARGET).await;
    let simple = id.replace('-', "");
    for other in [format!("urn:uuid:{id}"), format!("%7B{id}%7D"), simple] {
        let response = app.get(&format!("/events/{other}")).await;
        assert_eq!(response.status(), 404, "{other}");
        problem(response).await;
    }
    assert_eq!(app.get(&format!("/events/{id}")).await.status(), 200);
    app.stop().await;
}

#[tokio::test]
async fn unknown_id_returns_404_for_any_text() {
    let app = App::start(&[]).await;
    let long = "a".repeat(5_000);
    let ids = [
        "01890000-0000-7000-8000-000000000000",
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "0",
        "none",
        "01890000-0000-7000-8000-00000000000",
        "01890000-0000-7000-8000-0000000000000",
        "01890000-0000-7000-8000-00000000000g",
        "%00",
        "%ff",
        "%c3%28",
        "..%2fetc",
        "%2e%2e",
        "'%20or%201=1",
        "%F0%9F%98%80",
        &long,
    ];
    for id in ids {
        let mut connection = Connection::open(app.address).await;
        let request = format!("GET /events/{id} HTTP/1.1\r\nhost: x\r\n\r\n");
        connection.send(request).await;
        let response = connection.response().await.unwrap();
        assert_eq!(response.status, 404, "{id:.40}: {:?}", response.json());
        assert_eq!(response.header("content-type"), Some("application/problem+json"));
        assert_eq!(response.json()["status"], 404);
    }
    app.stop().await;
}
