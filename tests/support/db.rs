//! One server for the whole test binary, one fresh database a test.

use chaos::postgres::{Postgres, Wanted};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::sync::OnceCell;

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
    cluster()
        .await
        .create_database("proof")
        .await
        .expect("a fresh database")
}

/// A small pool of one's own, to look at the rows.
pub(crate) async fn pool(url: &str) -> PgPool {
    PgPoolOptions::new()
        .max_connections(2)
        .connect(url)
        .await
        .expect("the database answers")
}
