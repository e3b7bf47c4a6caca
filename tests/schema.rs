//! The schema: concurrent migration, and the index that the claim uses.

use dispatcher::event::EventId;
use dispatcher::store::{CLAIM, PgStore, SchemaError, StoreOptions};
use futures_util::future::join_all;
use sqlx::Connection;

use crate::support::fixture::Bench;
use crate::support::{app, db};

// A generic plan is costed while the table is small and used when it is large. It must use the due
// index, or every claim reads the whole table.
#[tokio::test]
async fn claim_uses_the_due_index_under_a_generic_plan() {
    let bench = Bench::new().await;
    let insert = "insert into webhook_events (id, target_url, target_given, payload, status, round, attempt_count,
                    failure_count, abandon_count, next_retry_at, created_at)
                select gen_random_uuid(), 'http://x/', true, '{}', 'pending', 0, 0, 0, 0,
                       now() + g * interval '1 s', now() from generate_series(-100, 20000) g";
    sqlx::query(insert).execute(&bench.pool).await.unwrap();
    let mut session = sqlx::PgConnection::connect(&bench.url).await.unwrap();
    for setting in [
        "set plan_cache_mode = force_generic_plan",
        "set enable_seqscan = off",
        "set enable_bitmapscan = off",
    ] {
        sqlx::query(setting).execute(&mut session).await.unwrap();
    }
    let prepare = format!(
        "prepare claiming (bigint, bigint, bigint, bigint, timestamptz) as {}",
        CLAIM
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(prepare))
        .execute(&mut session)
        .await
        .unwrap();
    let plan: Vec<(String,)> =
        sqlx::query_as("explain execute claiming (100, 30000000, 7, 1000000, null)")
            .fetch_all(&mut session)
            .await
            .unwrap();
    let plan: String = plan.into_iter().map(|(line,)| line + "\n").collect();
    assert!(plan.contains("webhook_events_due"), "{plan}");
    assert!(!plan.contains("Seq Scan on webhook_events"), "{plan}");
    assert!(!plan.contains("Sort"), "{plan}");
}

#[tokio::test]
async fn concurrent_migrations_succeed_and_keep_a_newer_schema() {
    let url = db::database().await;
    let options = StoreOptions::of(&app::config(&url, &[]));
    let stores: Vec<_> = (0..4).map(|_| PgStore::open(&options)).collect();
    for migrated in join_all(stores.iter().map(PgStore::migrate)).await {
        migrated.expect("every concurrent migration succeeds");
    }
    let pool = db::pool(&url).await;
    let newer =
        "insert into _sqlx_migrations values (9999, 'from the future', now(), true, '\\x00', 1)";
    sqlx::query(newer).execute(&pool).await.unwrap();
    stores[0]
        .migrate()
        .await
        .expect("an older binary starts on a newer schema");
    assert!(stores[0].is_current().await.unwrap());
}

// A replica before its promotion, or a server that an operator set to read-only. The state passes,
// so the process must wait and not exit.
#[tokio::test]
async fn read_only_database_is_unavailable_and_not_foreign() {
    let url = db::database().await;
    let pool = db::pool(&url).await;
    let read_only = |to: &'static str| {
        let set = format!(
            "do $$ begin execute format('alter database %I {to}', current_database()); end $$"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(set)).execute(&pool)
    };
    read_only("set default_transaction_read_only = on")
        .await
        .unwrap();
    let store = PgStore::open(&StoreOptions::of(&app::config(&url, &[])));
    let refused = store.migrate().await;
    assert!(
        matches!(refused, Err(SchemaError::Unavailable(_))),
        "{refused:?}"
    );
    read_only("reset default_transaction_read_only")
        .await
        .unwrap();
    store
        .migrate()
        .await
        .expect("the database accepts writes again");
}

// Ids are UUIDs of version 7.
#[test]
fn event_ids_are_ordered_by_time() {
    let ids: Vec<_> = (0..100).map(|_| EventId::fresh()).collect();
    assert!(ids.is_sorted());
}
