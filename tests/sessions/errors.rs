//! Errors of a session and of single statements, raised by a trigger.

use dispatcher::Role;
use reqwest::StatusCode;
use sqlx::PgPool;

use super::run;
use crate::support::app::{App, id_of, until};
use crate::support::db;
use crate::support::fixture::Endpoint;

/// Statements of the listed sessions fail with the listed SQLSTATE.
const REFUSE_LISTED: &str = "
create table refused (pid int, sqlstate text);
create function refuse_listed() returns trigger language plpgsql as $$
declare code text := (select sqlstate from refused where pid = pg_backend_pid());
begin
    if code is not null then raise exception 'refused by the test' using errcode = code; end if;
    return null;
end $$;
create trigger refuse_listed before insert or update on webhook_events
    for each statement execute function refuse_listed();";

/// Three of four statements fail with the SQLSTATE. A sequence also counts statements that are
/// rolled back.
const REFUSE_MOST: &str = "
create sequence tries;
create function refuse_most() returns trigger language plpgsql as $$ begin
    if nextval('tries') % 4 <> 0 then
        raise exception 'refused by the test' using errcode = 'SQLSTATE';
    end if;
    return null;
end $$;
create trigger refuse_most before insert or update on webhook_events
    for each statement execute function refuse_most();";

const SESSIONS: &str = "
select pid from pg_stat_activity
where application_name = 'webhook-dispatcher' and datname = current_database()";

const REFUSED_SESSIONS: &str = "
select count(*) from pg_stat_activity join refused using (pid) where datname = current_database()";

async fn sessions(pool: &PgPool) -> i64 {
    let count = format!("select count(*) from ({SESSIONS}) open");
    let count = sqlx::query_scalar(sqlx::AssertSqlSafe(count));
    count.fetch_one(pool).await.unwrap()
}

/// Posts until the event is accepted. A post may meet one session of each place.
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

/// Refuses all statements of all present sessions with `sqlstate`, as after a failover whose old
/// server is now read-only. The next session works.
async fn assert_sessions_are_replaced(sqlstate: &str) {
    let endpoint = Endpoint::responding_with(200).await;
    let app = App::over(&db::database().await, Role::Serve, &[]).await;
    sqlx::raw_sql(REFUSE_LISTED).execute(&app.pool).await.unwrap();
    let id = app.accept("1", &endpoint.url(1)).await;
    app.event_with_status(&id, "delivered").await;

    let list = format!("insert into refused select pid, '{sqlstate}' from ({SESSIONS}) open");
    run(&app.pool, list).await;
    let id = accept_with_retries(&app, &endpoint.url(2)).await;
    app.event_with_status(&id, "delivered").await;
    // Includes the sessions without a failed statement: presence, health, idle ones.
    until("every session was replaced", || async {
        let refused = sqlx::query_scalar::<_, i64>(REFUSED_SESSIONS);
        refused.fetch_one(&app.pool).await.unwrap() == 0 && sessions(&app.pool).await > 0
    })
    .await;
    let id = app.accept("1", &endpoint.url(3)).await;
    app.event_with_status(&id, "delivered").await;
    app.stop().await;
}

#[tokio::test]
async fn read_only_sessions_are_replaced() {
    assert_sessions_are_replaced("25006").await;
}

#[tokio::test]
async fn sessions_that_the_server_ends_are_replaced() {
    assert_sessions_are_replaced("57P01").await;
}

#[tokio::test]
async fn sessions_with_an_outdated_plan_are_replaced() {
    assert_sessions_are_replaced("0A000").await;
}

#[tokio::test]
async fn sessions_without_their_prepared_statement_are_replaced() {
    assert_sessions_are_replaced("26000").await;
}

/// Each post needs up to four tries, and the worker also.
async fn assert_statements_are_repeated(sqlstate: &str) {
    let endpoint = Endpoint::responding_with(200).await;
    let app = App::over(&db::database().await, Role::Serve, &[]).await;
    run(&app.pool, REFUSE_MOST.replace("SQLSTATE", sqlstate)).await;
    for number in 0..5 {
        let id = app.accept("1", &endpoint.url(number)).await;
        let event = app.event_with_status(&id, "delivered").await;
        assert_eq!(event["attempt_count"], 1, "{event:#}");
    }
    assert_eq!(endpoint.journal.receipts().len(), 5);
    app.stop().await;
}

#[tokio::test]
async fn serialization_failure_is_repeated_within_the_request() {
    assert_statements_are_repeated("40001").await;
}

#[tokio::test]
async fn deadlock_is_repeated_within_the_request() {
    assert_statements_are_repeated("40P01").await;
}
