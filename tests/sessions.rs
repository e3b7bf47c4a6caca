//! Server sessions: defaults of roles, databases and poolers do not reach them, and an error of a
//! session ends all sessions of the process.

mod errors;
mod pooler;
mod roles;

use dispatcher::Role;
use sqlx::PgPool;

use crate::support::app::App;
use crate::support::db;
use crate::support::fixture::Endpoint;

/// Runs statements that contain names of databases or roles.
async fn run(pool: &PgPool, sql: String) {
    let run = sqlx::raw_sql(sqlx::AssertSqlSafe(sql));
    run.execute(pool).await.expect("the statement is valid");
}

async fn database_name(pool: &PgPool) -> String {
    let name = sqlx::query_scalar("select current_database()::text");
    name.fetch_one(pool).await.expect("the database responds")
}

/// With each of these defaults, statements fail, sessions end, or commits are not durable.
const HARMFUL: &[(&str, &str)] = &[
    ("default_transaction_isolation", "serializable"),
    ("default_transaction_read_only", "on"),
    ("default_transaction_deferrable", "on"),
    ("synchronous_commit", "off"),
    ("statement_timeout", "1"),
    ("lock_timeout", "1"),
    ("idle_session_timeout", "10s"),
    ("transaction_timeout", "10s"),
    ("idle_in_transaction_session_timeout", "1"),
    ("client_encoding", "LATIN1"),
];

/// Records the settings of every session that writes one of the tables.
const RECORD_SETTINGS: &str = "
create table seen (name text, value text, unique (name, value));
create function record_settings() returns trigger language plpgsql as $$ begin
    insert into seen select name, current_setting(name, true) from unnest(array[
        'default_transaction_isolation', 'default_transaction_read_only',
        'default_transaction_deferrable', 'synchronous_commit', 'statement_timeout',
        'lock_timeout', 'idle_session_timeout', 'idle_in_transaction_session_timeout',
        'client_encoding', 'row_security']) name
    where current_setting(name, true) is not null on conflict do nothing;
    return null;
end $$;
create trigger record_settings before insert or update on webhook_events
    for each statement execute function record_settings();
create trigger record_settings before insert on workers
    for each statement execute function record_settings();";

// The trigger reads the settings in the sessions of the API, the worker and the presence. A default
// of the database has the same effect as one of the role or of the server.
#[tokio::test]
async fn defaults_of_the_database_do_not_reach_any_session() {
    let database = db::database().await;
    App::over(&database, Role::Api, &[]).await.stop().await;
    let pool = db::pool(&database).await;
    sqlx::raw_sql(RECORD_SETTINGS).execute(&pool).await.unwrap();
    let name = database_name(&pool).await;
    for (setting, value) in HARMFUL {
        let is_known = "select current_setting($1, true) is not null";
        let is_known = sqlx::query_scalar(is_known).bind(setting);
        if is_known.fetch_one(&pool).await.unwrap() {
            run(&pool, format!("alter database {name} set {setting} = '{value}'")).await;
        }
    }
    let endpoint = Endpoint::responding_with(200).await;
    let app = App::over(&database, Role::Serve, &[]).await;
    let id = app.accept("1", &endpoint.url(1)).await;
    app.event_with_status(&id, "delivered").await;
    app.stop().await;

    let seen = sqlx::query_as("select name, value from seen order by name, value");
    let seen: Vec<(String, String)> = seen.fetch_all(&pool).await.unwrap();
    let seen: Vec<_> = seen.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let expected = [
        "client_encoding=UTF8",
        "default_transaction_deferrable=off",
        "default_transaction_isolation=read committed",
        "default_transaction_read_only=off",
        "idle_in_transaction_session_timeout=10s",
        "idle_session_timeout=0",
        "lock_timeout=0",
        "row_security=off",
        "statement_timeout=1400ms",
        "statement_timeout=4500ms",
        "synchronous_commit=on",
    ];
    assert_eq!(seen, expected);
}
