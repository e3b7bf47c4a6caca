//! Other sessions hold every connection that the server gives out.

use chaos::postgres::OwnServer;
use dispatcher::Role;
use reqwest::StatusCode;
use sqlx::{Connection, PgConnection};
use tokio::time::timeout;

use super::{is_unavailable, outcomes};
use crate::support::app::{App, PATIENCE, id_of, until};
use crate::support::gated::Gated;
use crate::support::own::own_server;

/// No attempt ends by its deadline while connections are being taken.
const PATIENT: &[(&str, &str)] = &[("HTTP_TIMEOUT", "60")];

/// How many sessions there may still be, and how many the dispatcher has. Whoever does not run as the owner of the server, as
/// all of these do, is shut out some connections earlier.
const LEFT: &str = "
select current_setting('max_connections')::bigint - count(*),
    count(*) filter (where application_name = 'webhook-dispatcher')
from pg_stat_activity where backend_type = 'client backend'";

const END: &str = "
select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'webhook-dispatcher'";

/// Takes every connection there is; then ends the dispatcher's sessions and takes what they leave, until it has none. It
/// cannot come back from there: what is held is not given back.
async fn shut_out(own: &OwnServer) -> Vec<PgConnection> {
    let mut held = vec![own.session().await.unwrap()];
    let all = async {
        loop {
            while let Ok(session) = own.session().await {
                held.push(session);
            }
            let left: (i64, i64) = sqlx::query_as(LEFT).fetch_one(&mut held[0]).await.unwrap();
            if left == (0, 0) {
                return;
            }
            sqlx::query(END).execute(&mut held[0]).await.unwrap();
        }
    };
    assert!(timeout(PATIENCE, all).await.is_ok(), "some are always left");
    held
}

async fn stored(session: &mut PgConnection) -> i64 {
    let count = "select count(*) from webhook_events";
    sqlx::query_scalar(count).fetch_one(session).await.unwrap()
}

/// How many answers of receivers the dispatcher has heard.
async fn delivered(app: &App) -> Option<usize> {
    let text = app.get("/metrics").await.text().await.unwrap();
    let name = r#"webhook_attempts_total{outcome="delivered"} "#;
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|count| count.parse().ok())
}

/// Posts until the event is accepted: the sessions that were let go take their time to end.
async fn accept_in_the_end(app: &App, target: &str) -> String {
    loop {
        let body = format!(r#"{{"payload":1,"target_url":"{target}"}}"#);
        let answer = app.post(body).await;
        match answer.status() {
            StatusCode::ACCEPTED => return id_of(answer).await,
            status => assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE),
        }
    }
}

// The answers of five attempts come while the dispatcher has no session and gets none: they are kept, nothing is burnt, and
// when the others let go it is all settled, and taken up again, without anybody's doing.
#[tokio::test]
async fn shut_out_by_others_the_dispatcher_burns_nothing_and_comes_back_by_itself() {
    let Some(mut own) = own_server().await else {
        return;
    };
    let receiver = Gated::start().await;
    let database = own.create_database("exhausted").await.unwrap();
    let app = App::over(&database, Role::Serve, PATIENT).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(app.accept("1", &receiver.url()).await);
    }
    until("all are at the receiver", || async {
        receiver.arrived() == 5
    })
    .await;

    let mut held = shut_out(&own).await;
    receiver.open();
    until("their answers have come", || async {
        delivered(&app).await == Some(5)
    })
    .await;
    is_unavailable(&app).await;
    assert_eq!(
        stored(&mut held[0]).await,
        5,
        "what was answered 503 is not stored"
    );
    for session in held {
        let _ = session.close().await;
    }

    ids.push(accept_in_the_end(&app, &receiver.url()).await);
    for id in &ids {
        let event = app
            .event_once(id, "delivered", |event| event["status"] == "delivered")
            .await;
        assert_eq!(outcomes(&event), ["delivered"], "{event:#}");
        assert_eq!(event["attempt_count"], 1);
    }
    assert_eq!(receiver.arrived(), 6, "nothing was sent twice");
    app.stop().await;
}
