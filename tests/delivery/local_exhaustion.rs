//! Local exhaustion: this machine has no file descriptor left.
//!
//! The receiver is not the cause, so the event is released and the attempt is not counted.

use dispatcher::Role;
use serde_json::json;

use super::{ONCE, ended};
use crate::support::app::{App, until};
use crate::support::db;
use crate::support::fixture::Endpoint;
use crate::support::process::Processes;
use crate::support::view::outcomes;

// With one attempt, a counted failure would end the event. The lookup of a name needs a descriptor
// before the connection does, so both kinds of targets must be released.
#[tokio::test]
async fn no_free_descriptor_releases_events_without_an_attempt() {
    let endpoint = Endpoint::responding_with(200).await;
    let database = db::database().await;
    let app = App::over(&database, Role::Api, &[]).await;
    let mut processes = Processes::plain();
    let address = processes.start("short", &database, &[ONCE]).await;
    // The worker needs descriptors for its presence. After a delivery it holds it.
    let elsewhere = Endpoint::responding_with(200).await;
    let first = app.accept("0", &elsewhere.url(0)).await;
    assert_eq!(outcomes(&ended(&app, &first).await), ["delivered"]);
    processes.limit_descriptors("short", 1);
    let literal = endpoint.url(1);
    let named = endpoint.url(2).replace("127.0.0.1", "localhost");
    let ids = [app.accept("1", &literal).await, app.accept("2", &named).await];
    until("both events are released with a delay", || async {
        let released = "select count(*) from webhook_events
            where lease_token is null and attempt_count = 0 and next_retry_at > created_at";
        sqlx::query_scalar::<_, i64>(released).fetch_one(&app.pool).await.unwrap() == 2
    })
    .await;
    processes.limit_descriptors("short", 1_024);
    for id in &ids {
        let event = ended(&app, id).await;
        assert_eq!(outcomes(&event), ["delivered"], "{event:#}");
        assert_eq!(event["attempt_count"], json!(1));
    }
    let log = processes.log("short");
    assert_eq!(log.matches("local exhaustion").count(), 1, "{log}");
    let metrics = app.client.get(format!("http://{address}/metrics")).send();
    let metrics = metrics.await.unwrap().text().await.unwrap();
    let count = metrics.lines().find_map(|line| line.strip_prefix("webhook_shortages_total "));
    assert!(count.unwrap().parse::<u32>().unwrap() >= 2, "{metrics}");
    app.stop().await;
}
