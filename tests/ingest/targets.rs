//! The grammar of `target_url`, and the default target. `tests/guard.rs` tests the address ranges.

use dispatcher::Role;
use serde_json::{Value, json};

use super::{TARGET, problem, stored};
use crate::support::app::{App, id_of};
use crate::support::db;

const INVALID_TARGETS: &[&str] = &[
    "",
    " ",
    "example.com",
    "//example.com/hook",
    "/hook",
    "?a=b",
    "http:",
    "http:/",
    "http://",
    "http:///",
    "http://?a",
    "http://#a",
    "http:example.com",
    "http:/example.com",
    "http:\\\\example.com",
    "http//example.com",
    "https:/example.com/hook",
    "ftp://example.com",
    "file:///etc/passwd",
    "ws://example.com",
    "wss://example.com",
    "gopher://example.com",
    "unix:///run/x.sock",
    "javascript:alert(1)",
    "data:application/json,1",
    "mailto:a@example.com",
    "httpx://example.com",
    "https+unix://example.com",
    "http://user@example.com",
    "http://user:word@example.com",
    "http://:word@example.com",
    "https://user:@example.com",
    "http://example.com:0",
    "http://example.com:65536",
    "http://example.com:port",
    "http://example.com:-1",
    "http://example.com:80:80",
    "http://exa mple.com",
    " https://example.com",
    "https://example.com ",
    "https://example.com/a b",
    "https://example.com/\n",
    "https://exam\tple.com",
    "https://example.com/\0",
    "https://example.com/\u{7f}",
    "http://[::1",
    "http://[::g]/",
    "http://[1.2.3.4]/",
    "http://[fe80::1%25eth0]/",
    "http://1.2.3.256/",
    "http://1.2.3.4.5/",
    "http://0x1ffffffff/",
    "http://08.1.1.1/",
    "http://exam%ple.com",
    "http://@example.com",
    "http://:@example.com/",
    "http://a\"b.com/",
    "http://a{b}.com/",
    "http://a`b.com/",
    "http://a!b.com/",
    "https://a$b.com/?x",
    "http://a<b>.com",
    "http://a|b.com",
    "http://a^b.com",
    "http://%00.com",
    "https://xn--\u{fffd}.com",
];

async fn post(app: &App, target: &str) -> reqwest::Response {
    app.post(json!({"payload": 1, "target_url": target}).to_string()).await
}

#[tokio::test]
async fn target_that_is_not_an_http_url_returns_422() {
    // The default must not replace an invalid target.
    let own = [("TARGET_URL", TARGET)];
    let app = App::over(&db::database().await, Role::Api, &own).await;
    let long = format!("https://example.com/{}", "x".repeat(8_200));
    let mut accepted = Vec::new();
    for target in INVALID_TARGETS.iter().copied().chain([long.as_str()]) {
        let response = post(&app, target).await;
        if response.status() == 422 {
            assert_eq!(problem(response).await["field"], "target_url", "{target:?}");
        } else {
            accepted.push((target, response.status()));
        }
    }
    assert_eq!(accepted, [], "invalid targets that were accepted");
    assert_eq!(stored(&app).await, 0);
    app.stop().await;
}

#[tokio::test]
async fn target_is_stored_as_given() {
    let app = App::over(&db::database().await, Role::Api, &[]).await;
    let targets = [
        "http://example.com",
        "HTTPS://EXAMPLE.COM",
        "https://example.com:8443/a/../b?x=1&y=%20#part",
        "https://example.com./",
        "https://müller.example/straße?ä=ö",
        "http://93.184.215.14/",
        "http://[2606:2800:21f:cb07:6820:80da:af6b:8b2c]:8080/",
        "http://name-without-a-dot:9000/hook",
        "http://_underscore.example.com/",
    ];
    for target in targets {
        let response = post(&app, target).await;
        assert_eq!(response.status(), 202, "{target}");
        let event = app.event(&id_of(response).await).await;
        assert_eq!(event["target_url"], target);
    }
    app.stop().await;
}

#[tokio::test]
async fn default_target_is_used_and_its_absence_returns_422() {
    let database = db::database().await;
    let without = App::over(&database, Role::Api, &[]).await;
    let bodies = [r#"{"payload":1}"#, r#"{"payload":1,"target_url":null}"#];
    for body in bodies {
        let response = without.post(body).await;
        assert_eq!(response.status(), 422);
        let problem = problem(response).await;
        assert_eq!(problem["field"], "target_url");
        assert!(problem["detail"].as_str().unwrap().contains("TARGET_URL"));
    }
    assert_eq!(stored(&without).await, 0);
    without.stop().await;

    let with = App::over(&database, Role::Api, &[("TARGET_URL", TARGET)]).await;
    for body in bodies {
        let response = with.post(body).await;
        assert_eq!(response.status(), 202);
        assert_eq!(with.event(&id_of(response).await).await["target_url"], TARGET);
    }
    with.stop().await;
}

#[tokio::test]
async fn new_event_is_pending_and_due_immediately() {
    let app = App::over(&db::database().await, Role::Api, &[]).await;
    let response = post(&app, TARGET).await;
    let accepted: Value = response.json().await.unwrap();
    assert_eq!(accepted["status"], "accepted");
    assert_eq!(accepted.as_object().unwrap().len(), 2, "{accepted}");
    let id = accepted["id"].as_str().unwrap();
    assert!(uuid::Uuid::try_parse(id).is_ok_and(|parsed| parsed.to_string() == id));
    let event = app.event(id).await;
    let expected = json!({
        "id": id, "status": "pending", "reason": null, "target_url": TARGET, "attempt_count": 0,
        "next_retry_at": event["created_at"], "created_at": event["created_at"],
        "finished_at": null, "attempts": [], "round": 0, "replayable": false, "lease": null,
    });
    assert_eq!(event, expected);
    let created = event["created_at"].as_str().unwrap();
    assert!(created.ends_with('Z'), "{created}");
    chrono::DateTime::parse_from_rfc3339(created).unwrap();
    app.stop().await;
}
