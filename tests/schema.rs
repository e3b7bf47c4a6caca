//! The schema: migration beside other sessions, and the index that the claim uses.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use chaos::postgres::OwnServer;
use dispatcher::event::EventId;
use dispatcher::store::{CLAIM, PgStore, Readiness, SchemaError};
use futures_util::future::join_all;
use nix::unistd::{Gid, Uid, chown};
use sqlx::migrate::{Migrate, Migrator};
use sqlx::{Connection, PgConnection};

use crate::support::db::dedicated_server;
use crate::support::fixture::Bench;
use crate::support::process::command;
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
        "prepare claiming (bigint, bigint, bigint, bigint, timestamptz, bigint, bigint) as {}",
        CLAIM
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(prepare)).execute(&mut session).await.unwrap();
    let plan: Vec<(String,)> =
        sqlx::query_as("explain execute claiming (100, 30000000, 7, 1000000, null, 0, null)")
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
    let options = app::config(&url, &[]).store;
    let stores: Vec<_> = (0..4).map(|_| PgStore::open(&options)).collect();
    for migrated in join_all(stores.iter().map(PgStore::migrate)).await {
        migrated.expect("every concurrent migration succeeds");
    }
    let pool = db::pool(&url).await;
    let newer =
        "insert into _sqlx_migrations values (9999, 'from the future', now(), true, '\\x00', 1)";
    sqlx::query(newer).execute(&pool).await.unwrap();
    stores[0].migrate().await.expect("an older binary starts on a newer schema");
    assert_eq!(stores[0].readiness().await.unwrap(), Readiness::Ready);
}

/// A server that is restarted as a standby without a primary: it accepts reads only, until it is
/// promoted.
async fn standby() -> Option<(OwnServer, String)> {
    let mut own = dedicated_server().await?;
    let database = own.create_database("standby").await.unwrap();
    own.stop_at_once().await.unwrap();
    let directory = own.postgres().data_dir().expect("the server runs here");
    let owner = std::fs::metadata(directory).unwrap();
    let signal = directory.join("standby.signal");
    std::fs::write(&signal, "").unwrap();
    let (user, group) = (Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()));
    chown(&signal, Some(user), Some(group)).unwrap();
    own.bring_up().await.unwrap();
    Some((own, database))
}

// A standby before its promotion. The state passes, so the process must wait and not exit.
#[tokio::test]
async fn standby_is_unavailable_until_its_promotion() {
    let Some((own, database)) = standby().await else {
        return;
    };
    let check = command(&["check"], &[("DATABASE_URL", &database)]).await;
    assert_eq!(check.code, Some(1), "{}", check.text);
    assert!(check.text.contains("is a standby"), "{}", check.text);
    let store = PgStore::open(&app::config(&database, &[]).store);
    let refused = store.migrate().await;
    assert!(matches!(refused, Err(SchemaError::Unavailable(_))), "{refused:?}");
    let mut session = own.session().await.unwrap();
    let promoted: bool =
        sqlx::query_scalar("select pg_promote()").fetch_one(&mut session).await.unwrap();
    assert!(promoted);
    store.migrate().await.expect("the server accepts writes");
}

/// A store of a new database whose defaults would end each wait for a lock.
async fn impatient_store() -> (PgStore, String) {
    let url = db::database().await;
    let impatient = "do $$ begin
        execute format('alter database %I set statement_timeout = 100', current_database());
        execute format('alter database %I set lock_timeout = 100', current_database());
    end $$";
    let mut session = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql(impatient).execute(&mut session).await.unwrap();
    (PgStore::open(&app::config(&url, &[]).store), url)
}

fn assert_waits_for(what: &str, migrated: Result<(), SchemaError>) {
    let error = migrated.expect_err("another session holds the lock");
    assert!(error.retry_after().is_some(), "{error}");
    assert!(error.to_string().contains(what), "{error}");
}

// Another process migrates for longer than any timeout of the role. That is no foreign schema.
#[tokio::test]
async fn start_waits_for_a_migration_of_another_process() {
    let (store, url) = impatient_store().await;
    let mut other = PgConnection::connect(&url).await.unwrap();
    other.lock().await.unwrap();
    assert_waits_for("lock of the migrations", store.migrate().await);
    other.unlock().await.unwrap();
    store.migrate().await.expect("the lock is free");
    // A current schema is only read.
    other.lock().await.unwrap();
    store.migrate().await.expect("nothing is left to migrate");
}

// DDL that waits for its lock blocks all claims behind it, so each wait is short.
#[tokio::test]
async fn migration_waits_for_a_table_lock_and_is_repeated() {
    let (store, url) = impatient_store().await;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../migrations");
    let migrations = Migrator::new(Path::new(folder)).await.unwrap();
    let mut owner = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("set statement_timeout = 0; set lock_timeout = 0")
        .execute(&mut owner)
        .await
        .unwrap();
    migrations.run_to(1, &mut owner).await.unwrap();
    // The lock of a vacuum. Every migration of the table conflicts with it.
    let mut vacuum = PgConnection::connect(&url).await.unwrap();
    let locking = "begin; lock table webhook_events in share update exclusive mode";
    sqlx::raw_sql(locking).execute(&mut vacuum).await.unwrap();
    assert_waits_for("table lock", store.migrate().await);
    sqlx::raw_sql("rollback").execute(&mut vacuum).await.unwrap();
    store.migrate().await.expect("the table is free");
    assert_eq!(store.readiness().await.unwrap(), Readiness::Ready);
}

// The scale factor of the default lets dead index entries gather with the size of the table.
#[tokio::test]
async fn tables_are_vacuumed_after_a_fixed_number_of_changes() {
    let bench = Bench::new().await;
    let options = "select relname::text, reloptions from pg_class
                   where relname in ('webhook_events', 'delivery_attempts') order by relname";
    let options: Vec<(String, Vec<String>)> =
        sqlx::query_as(options).fetch_all(&bench.pool).await.unwrap();
    assert_eq!(options.len(), 2);
    for (table, options) in options {
        for option in ["autovacuum_vacuum_scale_factor=0", "autovacuum_vacuum_threshold=50000"] {
            assert!(options.iter().any(|set| set == option), "{table}: {options:?}");
        }
    }
}

// An operator must find the session that keeps dead rows. The test is the only other client.
#[tokio::test]
async fn oldest_transaction_is_found_with_its_session() {
    let bench = Bench::new().await;
    assert_eq!(bench.store.oldest_transaction().await.unwrap(), None);
    let mut session = sqlx::PgConnection::connect(&bench.url).await.unwrap();
    let open = "set application_name = 'nightly report'; begin; select 1";
    sqlx::raw_sql(open).execute(&mut session).await.unwrap();
    let pid: i32 =
        sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut session).await.unwrap();
    let oldest = bench.store.oldest_transaction().await.unwrap();
    let oldest = oldest.expect("a transaction is open");
    assert_eq!((oldest.pid, oldest.application.as_str()), (Some(pid), "nightly report"));
    assert!(!oldest.user.is_empty());
    let gauges = bench.store.gauges().await.unwrap();
    assert!(gauges.oldest_transaction_age >= oldest.age);
}

// Ids are UUIDs of version 7.
#[test]
fn event_ids_are_ordered_by_time() {
    let ids: Vec<_> = (0..100).map(|_| EventId::fresh()).collect();
    assert!(ids.is_sorted());
}
