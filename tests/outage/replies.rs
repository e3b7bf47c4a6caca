//! Replies of Postgres that are lost after the commit, so the outcome of the statement is unknown.

use std::time::Duration;

use chaos::links::to_database;
use chaos::proxy::{Control, Proxy, Statement};
use dispatcher::Role;
use reqwest::StatusCode;

use super::{SHORT, outcomes};
use crate::support::app::{App, WAIT_MAX};
use crate::support::db;
use crate::support::fixture::Endpoint;

/// Waits until a reply to the statement was cut. Later replies pass.
async fn assert_cut(link: &Proxy, statement: Statement, within: Duration) {
    let cut = link.sees(within, |effects| effects.cut == Some(statement));
    assert!(cut.await, "no reply was cut: {:?}", link.effects());
    link.set(Control::Pass);
}

// The insert commits and its reply is lost. The API cannot return 202 or 4xx, because it does not
// know the outcome. A second post with the key returns the one event.
#[tokio::test]
async fn lost_reply_to_insert_returns_503_and_the_key_finds_the_event() {
    let endpoint = Endpoint::responding_with(200).await;
    let database = db::database().await;
    let (link, url) = to_database(&database).unwrap();
    let app = App::over(&url, Role::Api, &[]).await;
    let body = format!(r#"{{"payload":1,"target_url":"{}"}}"#, endpoint.url(1));
    let post = || app.post_with(&[("idempotency-key", "k")], body.clone());

    link.set(Control::CutCommit(Statement::Insert));
    assert_eq!(post().await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_cut(&link, Statement::Insert, Duration::ZERO).await;

    let direct = db::pool(&database).await;
    let stored = "select count(*) from webhook_events where idempotency_key = 'k'";
    let count = || async { sqlx::query_scalar::<_, i64>(stored).fetch_one(&direct).await.unwrap() };
    assert_eq!(count().await, 1, "the insert was not committed, so the test proves nothing");
    assert_eq!(post().await.status(), StatusCode::ACCEPTED);
    assert_eq!(count().await, 1);
    app.stop().await;
}

// An orphaned claim: only its row shows it, and no worker sends a request for it. The lease is so
// long that it cannot expire during the test. The worker finds its lease and releases it.
#[tokio::test]
async fn lost_reply_to_claim_is_released_without_an_attempt() {
    let endpoint = Endpoint::responding_with(200).await;
    let (link, url) = to_database(&db::database().await).unwrap();
    let app = App::over(&url, Role::Serve, &[("LEASE_SECONDS", "600")]).await;

    link.set(Control::CutCommit(Statement::Claim));
    let id = app.accept("1", &endpoint.url(1)).await;
    assert_cut(&link, Statement::Claim, WAIT_MAX).await;

    let event = app.event_with_status(&id, "delivered").await;
    assert_eq!(outcomes(&event), ["delivered"], "{event:#}");
    assert_eq!(event["attempt_count"], 1);
    assert_eq!(endpoint.journal.receipts().len(), 1);
    app.stop().await;
}

// The worker sends the settlement again and learns that the first one was committed.
#[tokio::test]
async fn lost_reply_to_settle_is_repeated_and_counts_as_one() {
    let endpoint = Endpoint::responding_with(200).await;
    let (link, url) = to_database(&db::database().await).unwrap();
    let app = App::over(&url, Role::Serve, SHORT).await;

    link.set(Control::CutCommit(Statement::Settle));
    let id = app.accept("1", &endpoint.url(1)).await;
    assert_cut(&link, Statement::Settle, WAIT_MAX).await;
    // A later result is settled, too.
    let next = app.accept("2", &endpoint.url(2)).await;

    for id in [id, next] {
        let event = app.event_with_status(&id, "delivered").await;
        assert_eq!(outcomes(&event), ["delivered"], "{event:#}");
        assert_eq!(event["attempt_count"], 1);
    }
    assert_eq!(endpoint.journal.receipts().len(), 2);
    app.stop().await;
}
