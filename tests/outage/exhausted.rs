//! Other sessions hold every connection of the server.

use chaos::postgres::OwnServer;
use dispatcher::Role;
use reqwest::StatusCode;
use sqlx::{Connection, PgConnection};
use tokio::time::timeout;

use super::{assert_unavailable, outcomes};
use crate::support::app::{App, WAIT_MAX, id_of, until};
use crate::support::db::dedicated_server;
use crate::support::gated::Gated;

/// No attempt times out while the test takes connections.
const LONG_TIMEOUT: &[(&str, &str)] = &[("HTTP_TIMEOUT", "60")];

/// Number of free sessions, and number of the dispatcher's sessions. Only the owner of the server
/// may use the last few connections, and all sessions of this test run as the owner.
const SESSIONS: &str = "
select current_setting('max_connections')::bigint - count(*),
    count(*) filter (where application_name = 'webhook-dispatcher')
from pg_stat_activity where backend_type = 'client backend'";

const TERMINATE: &str = "
select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'webhook-dispatcher'";

/// Takes every free connection, terminates the sessions of the dispatcher, and takes their
/// connections, until the dispatcher has none. It cannot reconnect while the test holds them.
async fn take_all_connections(own: &OwnServer) -> Vec<PgConnection> {
    let mut held = vec![own.session().await.unwrap()];
    let all = async {
        loop {
            while let Ok(session) = own.session().await {
                held.push(session);
            }
            let sessions: (i64, i64) =
                sqlx::query_as(SESSIONS).fetch_one(&mut held[0]).await.unwrap();
            if sessions == (0, 0) {
                return;
            }
            sqlx::query(TERMINATE).execute(&mut held[0]).await.unwrap();
        }
    };
    assert!(timeout(WAIT_MAX, all).await.is_ok(), "some connections stay free");
    held
}

async fn stored(session: &mut PgConnection) -> i64 {
    let count = "select count(*) from webhook_events";
    sqlx::query_scalar(count).fetch_one(session).await.unwrap()
}

/// Number of delivered attempts in the metrics, or `None` before the first one.
async fn delivered(app: &App) -> Option<usize> {
    let text = app.get("/metrics").await.text().await.unwrap();
    let name = r#"webhook_attempts_total{outcome="delivered"} "#;
    text.lines().find_map(|line| line.strip_prefix(name)).and_then(|count| count.parse().ok())
}

/// Posts until the event is accepted. The closed sessions do not end immediately.
async fn accept_with_retries(app: &App, target: &str) -> String {
    loop {
        let body = format!(r#"{{"payload":1,"target_url":"{target}"}}"#);
        let response = app.post(body).await;
        match response.status() {
            StatusCode::ACCEPTED => return id_of(response).await,
            status => assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE),
        }
    }
}

// The responses of five attempts arrive while the dispatcher has no session and gets none. It keeps
// the results and settles them when connections are free again, without an operator.
#[tokio::test]
async fn results_survive_exhausted_connections() {
    let Some(mut own) = dedicated_server().await else {
        return;
    };
    let receiver = Gated::start().await;
    let database = own.create_database("exhausted").await.unwrap();
    let app = App::over(&database, Role::Serve, LONG_TIMEOUT).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(app.accept("1", &receiver.url()).await);
    }
    until("all requests are at the receiver", || async { receiver.arrived() == 5 }).await;

    let mut held = take_all_connections(&own).await;
    receiver.open();
    until("all responses have arrived", || async { delivered(&app).await == Some(5) }).await;
    assert_unavailable(&app).await;
    assert_eq!(stored(&mut held[0]).await, 5, "the post that got 503 was stored");
    for session in held {
        let _ = session.close().await;
    }

    ids.push(accept_with_retries(&app, &receiver.url()).await);
    for id in &ids {
        let event = app.event_where(id, "delivered", |event| event["status"] == "delivered").await;
        assert_eq!(outcomes(&event), ["delivered"], "{event:#}");
        assert_eq!(event["attempt_count"], 1);
    }
    assert_eq!(receiver.arrived(), 6, "number of requests");
    app.stop().await;
}
