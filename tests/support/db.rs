//! One server for the whole test binary, one fresh database a test, dropped when the test is over: kept until the end they
//! would take gigabytes.

use std::cell::RefCell;
use std::sync::Mutex;

use chaos::postgres::{Postgres, Wanted, connect};
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::sync::OnceCell;

/// Databases of tests that are over.
static LEFT: Mutex<Vec<String>> = Mutex::new(Vec::new());

thread_local! {
    /// Databases of the test that this thread runs: it ends with its thread.
    static OWN: RefCell<Own> = const { RefCell::new(Own(Vec::new())) };
}

struct Own(Vec<String>);

impl Drop for Own {
    fn drop(&mut self) {
        LEFT.lock()
            .expect("nobody panics with it")
            .append(&mut self.0);
    }
}

/// The server that all tests share; obtained by the first that asks, and said once on stderr.
pub(crate) async fn cluster() -> &'static Postgres {
    static CLUSTER: OnceCell<Postgres> = OnceCell::const_new();
    CLUSTER
        .get_or_init(|| async {
            let server = Postgres::obtain(Wanted::Any)
                .await
                .unwrap_or_else(|error| panic!("{error}"));
            eprintln!("postgres: {}", server.origin());
            server
        })
        .await
}

/// The URL of a fresh, empty database.
pub(crate) async fn database() -> String {
    let server = cluster().await;
    drop_what_is_left(server).await;
    let url = server.create_database("proof").await;
    let url = url.expect("a fresh database");
    OWN.with_borrow_mut(|own| own.0.push(url.clone()));
    url
}

async fn drop_what_is_left(server: &Postgres) {
    let left = std::mem::take(&mut *LEFT.lock().expect("nobody panics with it"));
    if left.is_empty() {
        return;
    }
    let mut admin = connect(server.admin_url())
        .await
        .expect("it takes sessions");
    for url in left {
        let options: PgConnectOptions = url.parse().expect("a URL");
        let name = options.get_database().expect("it names one");
        // Whoever still holds a session belongs to a test that is over.
        let sql = format!("drop database \"{name}\" with (force)");
        let dropped = sqlx::raw_sql(sqlx::AssertSqlSafe(sql));
        dropped.execute(&mut admin).await.expect("it is there");
    }
}

/// A small pool of one's own, to look at the rows.
pub(crate) async fn pool(url: &str) -> PgPool {
    PgPoolOptions::new()
        .max_connections(2)
        .connect(url)
        .await
        .expect("the database answers")
}
