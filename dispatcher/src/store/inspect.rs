//! Inspection of a database for `dispatcher check`: session settings, durability, rights.

use sqlx::{PgConnection, Row};

use super::connect::PgStore;
use super::schema::{SchemaError, TABLES, missing};

/// State of a database.
#[derive(Debug)]
pub struct Inspection {
    /// Version of the server and the settings that durability depends on, in one line.
    pub server: String,
    /// Settings with which a crash of the server can lose accepted events.
    pub unsafe_settings: Vec<&'static str>,
    /// Reason why the database accepts no writes.
    pub read_only: Option<&'static str>,
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
select current_setting('server_version') as version, current_setting('fsync') as fsync,
    current_setting('full_page_writes') as full_page_writes,
    current_setting('synchronous_standby_names') as standbys,
    pg_is_in_recovery() as in_recovery, current_setting('transaction_read_only') as read_only,
    to_regclass('_sqlx_migrations') is not null as has_schema";

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

async fn inspect(session: &mut PgConnection) -> Result<Inspection, sqlx::Error> {
    let row = sqlx::query(SERVER).fetch_one(&mut *session).await?;
    let text = |name| row.try_get::<&str, _>(name);
    let (fsync, full_page_writes) = (text("fsync")?, text("full_page_writes")?);
    let settings = [("fsync", fsync), ("full_page_writes", full_page_writes)];
    let is_off = settings.iter().filter(|(_, value)| *value != "on");
    let read_only = match (row.try_get("in_recovery")?, text("read_only")?) {
        (true, _) => Some("the server is a standby or in recovery"),
        (false, "on") => Some("transactions are read-only"),
        _ => None,
    };
    let has_schema: bool = row.try_get("has_schema")?;
    let schema = missing(session).await.map(|missing| match has_schema {
        _ if missing.is_empty() => SchemaState::Current,
        true => SchemaState::Older,
        false => SchemaState::Absent,
    });
    let needed = if matches!(schema, Ok(SchemaState::Current)) { RUN } else { MIGRATE };
    Ok(Inspection {
        server: format!(
            "PostgreSQL {}, fsync={fsync}, full_page_writes={full_page_writes}, \
             synchronous_standby_names='{}'",
            text("version")?,
            text("standbys")?
        ),
        unsafe_settings: is_off.map(|(name, _)| *name).collect(),
        read_only,
        schema,
        missing_rights: sqlx::query_scalar(needed)
            .bind(TABLES.as_slice())
            .fetch_all(session)
            .await?,
    })
}
