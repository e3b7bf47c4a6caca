//! Paths and methods that are not there, and ids of no event.

use reqwest::Method;

use super::{GOOD, problem, stored};
use crate::support::app::App;
use crate::support::raw::Connection;

#[tokio::test]
async fn a_path_that_is_not_there_is_a_404_problem() {
    let app = App::start(&[]).await;
    let paths = [
        "/",
        "/event",
        "/events/",
        "/EVENTS",
        "/events/a/b",
        "/metrics/x",
        "/healthz",
    ];
    for path in paths {
        for method in [Method::GET, Method::POST] {
            let request = app.client.request(method, app.url(path)).body(GOOD);
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 404, "{path}");
            problem(answer).await;
        }
    }
    assert_eq!(stored(&app).await, 0);
    app.stop().await;
}

#[tokio::test]
async fn a_method_that_a_path_does_not_take_is_a_405_problem_that_says_which_are() {
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
        let answer = app
            .client
            .request(method.clone(), app.url(path))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 405, "{method} {path}");
        let allow = answer
            .headers()
            .get("allow")
            .map(|value| value.to_str().unwrap().to_owned());
        assert!(
            allow.is_some_and(|allow| allow.contains(takes)),
            "{method} {path}: no Allow"
        );
        problem(answer).await;
    }
    app.stop().await;
}

// The parser of ids knows three more forms; an id that is given out has one, in which it is found.
#[tokio::test]
async fn only_the_form_in_which_an_id_was_given_out_is_an_id() {
    let app = super::api(&[]).await;
    let id = app.accept("1", super::TARGET).await;
    let simple = id.replace('-', "");
    for other in [format!("urn:uuid:{id}"), format!("%7B{id}%7D"), simple] {
        let answer = app.get(&format!("/events/{other}")).await;
        assert_eq!(answer.status(), 404, "{other}");
        problem(answer).await;
    }
    assert_eq!(app.get(&format!("/events/{id}")).await.status(), 200);
    app.stop().await;
}

#[tokio::test]
async fn an_id_of_no_event_is_404_whatever_it_looks_like() {
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
        let answer = connection.answer().await.unwrap();
        assert_eq!(answer.status, 404, "{id:.40}: {:?}", answer.json());
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json")
        );
        assert_eq!(answer.json()["status"], 404);
    }
    app.stop().await;
}
