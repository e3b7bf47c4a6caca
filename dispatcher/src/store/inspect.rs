//! Inspection of a database for `dispatcher check`: session settings, durability, rights.

use sqlx::PgConnection;

use super::connect::PgStore;
use super::schema::{SchemaError, TABLES, missing};

/// State of a database.
#[derive(Debug)]
pub struct Inspection {
    /// Version of the server and the settings that durability depends on, in one line.
    pub server: String,
    /// Settings with which a crash of the server can lose accepted events.
    pub unsafe_settings: Vec<String>,
    /// Reason why the database accepts no writes.
    pub read_only: Option<String>,
    /// State of the schema, or the reason why it cannot be used.
    pub schema: Result<SchemaState, SchemaError>,
    /// Rights that the role lacks to run with this schema, or to migrate it.
    pub missing_rights: Vec<String>,
}

/// State of the schema, compared with this binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaState {
    /// No migration was applied yet.
    Absent,
    /// At least one migration of this binary is missing.
    Older,
    /// Every migration of this binary was applied.
    Current,
}

const SERVER: &str = "
select format('PostgreSQL %s, fsync=%s, full_page_writes=%s, synchronous_standby_names=''%s''',
        current_setting('server_version'), current_setting('fsync'),
        current_setting('full_page_writes'), current_setting('synchronous_standby_names')),
    array(select name from unnest(array['fsync', 'full_page_writes']) name
        where current_setting(name) <> 'on'),
    case when pg_is_in_recovery() then 'the server is a standby or in recovery'
        when current_setting('transaction_read_only') = 'on' then 'transactions are read-only' end,
    to_regclass('_sqlx_migrations') is not null";

/// Missing rights for a current schema. `row_security_active` is true if a policy hides rows.
const RUN: &str = "
select privilege || ' on ' || name as missing from (
    select name, privilege
    from unnest($1::text[]) name, unnest(array['select', 'insert', 'update', 'delete']) privilege
    union all select '_sqlx_migrations', 'select'
) needed where not has_table_privilege(to_regclass(name), privilege)
union all
select 'a role that no row security policy of ' || name || ' applies to'
from unnest($1::text[]) name where row_security_active(to_regclass(name))";

/// Missing rights for a migration.
const MIGRATE: &str = "
select 'create on a schema of the search_path' as missing
where has_schema_privilege(current_schema(), 'create') is not true
union all
select 'ownership of ' || name from unnest($1::text[]) name
    join pg_class on pg_class.oid = to_regclass(name)
where not pg_has_role(relowner, 'usage')";

impl PgStore {
    /// Opens one session of each kind and reads the state of the database. Changes nothing.
    ///
    /// # Errors
    /// A session is refused.
    pub async fn inspect(&self) -> Result<Inspection, SchemaError> {
        let mut session = self.migration.open().await.map_err(SchemaError::opening)?;
        let inspection = inspect(&mut session).await.map_err(SchemaError::opening)?;
        for pool in [&self.accept, &self.work, &self.health] {
            let opened = pool.run("opening a session", async |_| Ok(()));
            opened.await.map_err(SchemaError::Pool)?;
        }
        Ok(inspection)
    }
}

async fn inspect(db: &mut PgConnection) -> sqlx::Result<Inspection> {
    let row = sqlx::query_as(SERVER).fetch_one(&mut *db).await?;
    let (server, unsafe_settings, read_only, has_schema) = row;
    let schema = missing(db).await.map(|missing| match has_schema {
        _ if missing.is_empty() => SchemaState::Current,
        true => SchemaState::Older,
        false => SchemaState::Absent,
    });
    let needed = if matches!(schema, Ok(SchemaState::Current)) { RUN } else { MIGRATE };
    let needed = sqlx::query_scalar(needed).bind(TABLES.as_slice());
    let missing_rights = needed.fetch_all(db).await?;
    Ok(Inspection { server, unsafe_settings, read_only, schema, missing_rights })
}
