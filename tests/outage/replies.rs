//! Replies that are lost after their commit: the worker does not know what became of its own statement.

use std::time::Duration;

use chaos::links::to_database;
use chaos::proxy::{Control, Proxy, Statement};
use dispatcher::Role;
use reqwest::StatusCode;

use super::{SHORT, outcomes};
use crate::support::app::{App, PATIENCE};
use crate::support::db;
use crate::support::fixture::Endpoint;

/// Waits until the reply to such a statement was cut; every later one passes.
async fn is_cut(link: &Proxy, statement: Statement, within: Duration) {
    let cut = link.sees(within, |effects| effects.cut == Some(statement));
    assert!(cut.await, "never cut: {:?}", link.effects());
    link.set(Control::Pass);
}

// The insert commits and its reply is lost. A 202 would be a guess and a 4xx a lie; the key resolves it to one event.
#[tokio::test]
async fn a_commit_whose_reply_is_lost_is_no_202_and_its_key_makes_one_event() {
    let endpoint = Endpoint::answering(200).await;
    let database = db::database().await;
    let (link, url) = to_database(&database).unwrap();
    let app = App::over(&url, Role::Api, &[]).await;
    let body = format!(r#"{{"payload":1,"target_url":"{}"}}"#, endpoint.url(1));
    let post = || app.post_with(&[("idempotency-key", "k")], body.clone());

    link.set(Control::CutCommit(Statement::Insert));
    assert_eq!(post().await.status(), StatusCode::SERVICE_UNAVAILABLE);
    is_cut(&link, Statement::Insert, Duration::ZERO).await;

    let direct = db::pool(&database).await;
    let stored = "select count(*) from webhook_events where idempotency_key = 'k'";
    let count = || async {
        sqlx::query_scalar::<_, i64>(stored)
            .fetch_one(&direct)
            .await
            .unwrap()
    };
    assert_eq!(
        count().await,
        1,
        "it was committed, or this test tests nothing"
    );
    assert_eq!(post().await.status(), StatusCode::ACCEPTED);
    assert_eq!(count().await, 1);
    app.stop().await;
}

// Nobody knows of the claim but its row: nothing is sent under it, and its lease ends by its time. That costs the event an
// abandonment, which is no failure of its receiver.
#[tokio::test]
async fn a_claim_whose_reply_is_lost_ends_by_its_lease_and_nothing_was_sent_under_it() {
    let endpoint = Endpoint::answering(200).await;
    let (link, url) = to_database(&db::database().await).unwrap();
    let app = App::over(&url, Role::Serve, SHORT).await;

    link.set(Control::CutCommit(Statement::Claim));
    let id = app.accept("1", &endpoint.url(1)).await;
    is_cut(&link, Statement::Claim, PATIENCE).await;

    let event = app.event_when(&id, "delivered").await;
    assert_eq!(outcomes(&event), ["abandoned", "delivered"], "{event:#}");
    assert_eq!(endpoint.journal.receipts().len(), 1);
    app.stop().await;
}

// The worker must say it again, and find that it is said.
#[tokio::test]
async fn a_settle_whose_reply_is_lost_is_said_again_and_counts_as_one() {
    let endpoint = Endpoint::answering(200).await;
    let (link, url) = to_database(&db::database().await).unwrap();
    let app = App::over(&url, Role::Serve, SHORT).await;

    link.set(Control::CutCommit(Statement::Settle));
    let id = app.accept("1", &endpoint.url(1)).await;
    is_cut(&link, Statement::Settle, PATIENCE).await;
    // What came after it is settled, too.
    let next = app.accept("2", &endpoint.url(2)).await;

    for id in [id, next] {
        let event = app.event_when(&id, "delivered").await;
        assert_eq!(outcomes(&event), ["delivered"], "{event:#}");
        assert_eq!(event["attempt_count"], 1);
    }
    assert_eq!(endpoint.journal.receipts().len(), 2);
    app.stop().await;
}
