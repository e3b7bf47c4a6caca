//! `/readyz` and the gauges of `/metrics`: each reason for a 503, and none that is not one.

use std::fs;

use chaos::postgres::OwnServer;
use dispatcher::Role;
use futures_util::future::join_all;

use super::operations::samples;
use crate::support::app::{App, until};
use crate::support::db;
use crate::support::db::dedicated_server;

/// Waits until `/readyz` returns 503 with the reason.
async fn until_refused(app: &App, reason: &str) {
    until(reason, || async {
        let response = app.get("/readyz").await;
        response.status() == 503 && response.text().await.unwrap().contains(reason)
    })
    .await;
}

async fn restart_as_standby(own: &mut OwnServer) {
    let signal = own.postgres().data_dir().unwrap().join("standby.signal");
    own.stop_at_once().await.unwrap();
    fs::write(signal, "").unwrap();
    own.bring_up().await.unwrap();
}

#[tokio::test]
async fn server_in_recovery_is_not_ready_until_it_is_promoted() {
    let Some(mut own) = dedicated_server().await else {
        return;
    };
    let database = own.create_database("recovery").await.unwrap();
    let app = App::over(&database, Role::Serve, &[]).await;
    restart_as_standby(&mut own).await;
    until_refused(&app, "in recovery").await;
    let mut admin = own.session().await.unwrap();
    let promote = sqlx::query("select pg_promote()").execute(&mut admin).await;
    promote.unwrap();
    app.until_ready().await;
    app.stop().await;
}

// The database is available, but the worker cannot register, so it claims no event.
#[tokio::test]
async fn worker_without_presence_for_5_s_is_not_ready() {
    let database = db::database().await;
    App::over(&database, Role::Api, &[]).await.stop().await;
    let direct = db::pool(&database).await;
    let mut holder = direct.begin().await.unwrap();
    let lock = sqlx::query("lock table workers in access exclusive mode");
    lock.execute(&mut *holder).await.unwrap();
    let app = App::over(&database, Role::Worker, &[]).await;
    until_refused(&app, "presence").await;
    holder.rollback().await.unwrap();
    app.until_ready().await;
    app.stop().await;
}

// The query of the gauges waits for the lock until its timeout. A health check does not wait for
// the query, concurrent requests share it, and no gauge has an old value afterwards.
#[tokio::test]
async fn gauges_that_cannot_be_read_are_absent_and_do_not_block_readyz() {
    let app = App::start(&[]).await;
    let mut holder = app.pool.begin().await.unwrap();
    let lock = sqlx::query("lock table webhook_events in access exclusive mode");
    lock.execute(&mut *holder).await.unwrap();
    let scrapes = join_all((0..20).map(|_| samples(&app)));
    let (scrapes, ready) = tokio::join!(scrapes, app.get("/readyz"));
    assert_eq!(ready.status(), 200);
    for scrape in scrapes {
        assert!(!scrape.contains_key("webhook_due_events"));
        assert!(!scrape.contains_key("webhook_oldest_due_age_seconds"));
        assert_eq!(scrape["webhook_gauges_failed_total"], 1.0);
    }
    holder.rollback().await.unwrap();
    until("the gauges are read again", || async {
        samples(&app).await.contains_key("webhook_due_events")
    })
    .await;
    app.stop().await;
}
