//! Roles with few rights, and names that must be percent-encoded.

use dispatcher::Role;
use reqwest::Url;
use sqlx::PgPool;

use super::{database_name, run};
use crate::support::app::App;
use crate::support::db;
use crate::support::fixture::Endpoint;
use crate::support::process::command;

const README: &str = include_str!("../../README.md");

/// A role without rights of its own, in the server that all tests share.
struct OrdinaryRole {
    name: String,
    pool: PgPool,
}

impl OrdinaryRole {
    async fn new(pool: &PgPool) -> Self {
        let name = format!("role_{}", uuid::Uuid::new_v4().simple());
        run(pool, format!("create role {name} login password 'secret'")).await;
        Self { name, pool: pool.clone() }
    }

    /// The URL of the database for this role.
    fn url(&self, database: &str) -> String {
        let mut url = Url::parse(database).unwrap();
        url.set_username(&self.name).unwrap();
        url.set_password(Some("secret")).unwrap();
        url.to_string()
    }

    async fn grant(&self, sql: &str) {
        run(&self.pool, sql.replace("ROLE", &self.name)).await;
    }

    /// Removes the role from the server. Its sessions must have ended.
    async fn remove(self) {
        run(&self.pool, format!("drop owned by {0}; drop role {0}", self.name)).await;
    }
}

/// The SQL block of the README that grants the rights of the service.
fn grants_of_the_readme() -> String {
    let block = README.split("```sql\n").find(|block| block.starts_with("grant "));
    let block = block.expect("the README lists the grants");
    let (sql, _) = block.split_once("```").expect("the block ends");
    sql.replace("to webhooks;", "to ROLE;")
}

// `public` may create tables in older servers. The role must not need that.
#[tokio::test]
async fn role_with_the_grants_of_the_readme_delivers() {
    let database = db::database().await;
    App::over(&database, Role::Api, &[]).await.stop().await;
    let pool = db::pool(&database).await;
    let role = OrdinaryRole::new(&pool).await;
    run(&pool, "revoke all on schema public from public".into()).await;
    role.grant(&grants_of_the_readme()).await;

    let url = role.url(&database);
    let check = command(&["check"], &[("DATABASE_URL", &url)]).await;
    assert_eq!(check.code, Some(0), "{}", check.text);
    assert!(check.text.contains("presence  held"), "{}", check.text);
    let endpoint = Endpoint::responding_with(200).await;
    let app = App::unready(&url, Role::Serve, &[], &database).await;
    app.until_ready().await;
    let id = app.accept("1", &endpoint.url(1)).await;
    app.event_with_status(&id, "delivered").await;
    app.stop().await;
    role.remove().await;
}

#[tokio::test]
async fn check_names_each_missing_right() {
    let database = db::database().await;
    let pool = db::pool(&database).await;
    let role = OrdinaryRole::new(&pool).await;
    let url = role.url(&database);
    run(&pool, "revoke all on schema public from public".into()).await;
    let absent = command(&["check"], &[("DATABASE_URL", &url)]).await;
    assert_eq!(absent.code, Some(1), "{}", absent.text);
    assert!(absent.text.contains("lacks create on a schema"), "{}", absent.text);

    App::over(&database, Role::Api, &[]).await.stop().await;
    role.grant("grant usage on schema public to ROLE").await;
    let unreadable = command(&["check"], &[("DATABASE_URL", &url)]).await;
    assert_eq!(unreadable.code, Some(1), "{}", unreadable.text);
    assert!(unreadable.text.contains("_sqlx_migrations"), "{}", unreadable.text);

    role.grant(&grants_of_the_readme()).await;
    role.grant("revoke insert on workers from ROLE; revoke delete on webhook_events from ROLE")
        .await;
    let few = command(&["check"], &[("DATABASE_URL", &url)]).await;
    assert_eq!(few.code, Some(1), "{}", few.text);
    assert!(few.text.contains("insert on workers"), "{}", few.text);
    assert!(few.text.contains("delete on webhook_events"), "{}", few.text);
    assert!(!few.text.contains("select on"), "{}", few.text);
    role.remove().await;
}

// A policy would hide rows from the claims without an error.
#[tokio::test]
async fn check_refuses_a_role_from_which_a_policy_hides_rows() {
    let database = db::database().await;
    App::over(&database, Role::Api, &[]).await.stop().await;
    let pool = db::pool(&database).await;
    let role = OrdinaryRole::new(&pool).await;
    role.grant(&grants_of_the_readme()).await;
    role.grant("alter table webhook_events enable row level security").await;
    let check = command(&["check"], &[("DATABASE_URL", &role.url(&database))]).await;
    assert_eq!(check.code, Some(1), "{}", check.text);
    assert!(check.text.contains("row security"), "{}", check.text);
    role.remove().await;
}

#[tokio::test]
async fn user_password_and_database_may_be_percent_encoded() {
    let existing = db::database().await;
    let pool = db::pool(&existing).await;
    let unique = uuid::Uuid::new_v4().simple().to_string();
    run(&pool, format!("create role \"us@er {unique}\" login password 'p#%/: ?&'")).await;
    let create = format!(
        "create database \"web hooks/{unique}\" template template0 encoding 'UTF8' \
         owner \"us@er {unique}\""
    );
    run(&pool, create).await;
    let parsed = Url::parse(&existing).unwrap();
    let (host, port) = (parsed.host_str().unwrap(), parsed.port().unwrap());
    let url = format!(
        "postgresql://us%40er%20{unique}:p%23%25%2F%3A%20%3F%26@{host}:{port}/web%20hooks%2F{unique}"
    );
    let app = App::unready(&url, Role::Serve, &[], &existing).await;
    app.until_ready().await;
    let name = database_name(&db::pool(&url).await).await;
    assert_eq!(name, format!("web hooks/{unique}"));
    app.stop().await;
    run(&pool, format!("drop database \"web hooks/{unique}\" with (force)")).await;
    run(&pool, format!("drop role \"us@er {unique}\"")).await;
}
