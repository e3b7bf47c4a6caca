//! One Postgres server for the test binary, and a new database for each test.
//!
//! A database is dropped soon after its test. If all were kept to the end, they would fill
//! gigabytes.

use std::cell::RefCell;
use std::sync::Mutex;

use chaos::postgres::{OwnParts, OwnServer, Postgres, Wanted, connect};
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::sync::OnceCell;

/// Databases of tests that have ended.
static UNUSED: Mutex<Vec<String>> = Mutex::new(Vec::new());

thread_local! {
    /// Databases of the test on this thread. The test runner ends the thread with its test.
    static CREATED: RefCell<Created> = const { RefCell::new(Created(Vec::new())) };
}

struct Created(Vec<String>);

impl Drop for Created {
    fn drop(&mut self) {
        UNUSED.lock().expect("no code panics while it holds the lock").append(&mut self.0);
    }
}

/// The server that all tests share. The first caller finds or starts it and prints its origin.
pub(crate) async fn cluster() -> &'static Postgres {
    static CLUSTER: OnceCell<Postgres> = OnceCell::const_new();
    CLUSTER
        .get_or_init(|| async {
            let server =
                Postgres::obtain(Wanted::Any).await.unwrap_or_else(|error| panic!("{error}"));
            eprintln!("postgres: {}", server.origin());
            server
        })
        .await
}

/// Creates an empty database and returns its URL.
pub(crate) async fn database() -> String {
    let server = cluster().await;
    drop_unused(server).await;
    let url = server.create_database("proof").await;
    let url = url.expect("the database can be created");
    CREATED.with_borrow_mut(|created| created.0.push(url.clone()));
    url
}

async fn drop_unused(server: &Postgres) {
    let unused =
        std::mem::take(&mut *UNUSED.lock().expect("no code panics while it holds the lock"));
    if unused.is_empty() {
        return;
    }
    let mut admin = connect(server.admin_url()).await.expect("the server accepts sessions");
    for url in unused {
        let options: PgConnectOptions = url.parse().expect("the URL is valid");
        let name = options.get_database().expect("the URL names a database");
        // `force` ends sessions that a dispatcher of the ended test still holds.
        let sql = format!("drop database \"{name}\" with (force)");
        let dropped = sqlx::raw_sql(sqlx::AssertSqlSafe(sql));
        dropped.execute(&mut admin).await.expect("the database exists");
    }
}

/// A pool of two connections for reading the rows.
pub(crate) async fn pool(url: &str) -> PgPool {
    PgPoolOptions::new().max_connections(2).connect(url).await.expect("the database responds")
}

/// Starts a server for one test, for faults that affect a whole server. If the machine has no
/// Postgres binaries, prints the reason and returns `None`. The test creates its own database.
pub(crate) async fn dedicated_server() -> Option<OwnServer> {
    let mut reasons = Vec::new();
    for source in [Wanted::Machine, Wanted::Downloaded] {
        match OwnServer::start(&source, OwnParts::default()).await {
            Ok(server) => return Some(server),
            Err(error) => reasons.push(error.to_string()),
        }
    }
    eprintln!("skipped: a dedicated Postgres: {}", reasons.join("; "));
    None
}
