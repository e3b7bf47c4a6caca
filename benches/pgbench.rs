//! References B1 and R2: inserts into a plain table by `pgbench`, with synchronous commits.
//!
//! They show the limit of durable inserts on this machine. The table has no column that the
//! dispatcher needs, and one index.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use chaos::postgres::Postgres;
use sqlx::{Connection, PgConnection};
use tokio::process::Command;
use url::Url;

use crate::figures::rate;

const SCHEMA: &str = "create table ref_event (id uuid primary key, target_id int not null,
    created_at timestamptz not null default now(), body bytea not null)";

/// An insert of the same number of body bytes as in an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserts {
    /// B1: one row per commit, 32 clients.
    Single,
    /// R2: 100 rows per commit, 4 clients.
    Hundred,
}

impl Inserts {
    /// Name in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Single => "B1, one-row inserts",
            Self::Hundred => "R2, inserts of 100",
        }
    }

    const fn rows(self) -> u64 {
        match self {
            Self::Single => 1,
            Self::Hundred => 100,
        }
    }

    const fn clients(self) -> u64 {
        match self {
            Self::Single => 32,
            Self::Hundred => 4,
        }
    }

    fn script(self, body_bytes: usize) -> String {
        let body = format!("repeat('x', {body_bytes})::bytea");
        let rows = match self {
            Self::Single => format!("values (gen_random_uuid(), 7, {body})"),
            Self::Hundred => {
                format!("select gen_random_uuid(), g, {body} from generate_series(1, 100) g")
            }
        };
        format!("insert into ref_event (id, target_id, body) {rows};\n")
    }
}

/// Rows that were inserted.
#[derive(Clone, Copy, Debug)]
pub struct Inserted {
    /// Number of rows.
    pub rows: u64,
    /// Time of all transactions, without the time of connecting.
    pub elapsed: Duration,
}

impl Inserted {
    /// Rows per second.
    pub fn rate(&self) -> f64 {
        rate(self.rows, self.elapsed)
    }
}

/// `pgbench` with a database of the reference.
#[derive(Debug)]
pub struct Pgbench {
    program: PathBuf,
    environment: Vec<(&'static str, String)>,
    scripts: tempfile::TempDir,
}

impl Pgbench {
    /// Creates the table of the reference for bodies of this size. Returns `None` if `pgbench` is
    /// neither beside the binaries of the server nor in `PATH`.
    ///
    /// # Errors
    /// If the table cannot be created.
    pub async fn open(postgres: &Postgres, body_bytes: usize) -> anyhow::Result<Option<Self>> {
        let Some(program) = find(postgres) else {
            return Ok(None);
        };
        let url = postgres.create_database("inserts").await?;
        let mut connection = PgConnection::connect(&url).await?;
        sqlx::raw_sql(SCHEMA).execute(&mut connection).await?;
        connection.close().await?;
        let scripts = tempfile::tempdir()?;
        for inserts in [Inserts::Single, Inserts::Hundred] {
            std::fs::write(script_path(scripts.path(), inserts), inserts.script(body_bytes))?;
        }
        Ok(Some(Self { program, environment: environment(&url)?, scripts }))
    }

    /// Inserts at least this number of rows.
    ///
    /// # Errors
    /// If `pgbench` fails.
    pub async fn run(&self, inserts: Inserts, rows: u64) -> anyhow::Result<Inserted> {
        let transactions = rows.div_ceil(inserts.rows() * inserts.clients()).max(1);
        let mut command = Command::new(&self.program);
        command
            .args(["-n", "-M", "prepared", "-j", "1"])
            .args(["-c", &inserts.clients().to_string(), "-t", &transactions.to_string(), "-f"])
            .arg(script_path(self.scripts.path(), inserts))
            .envs(self.environment.iter().map(|(name, value)| (*name, value)))
            .kill_on_drop(true);
        let output = command.output().await.context("starting pgbench")?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            bail!("pgbench failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let per_second = transactions_per_second(&text)
            .with_context(|| format!("pgbench printed no rate: {text}"))?;
        let transactions = transactions * inserts.clients();
        let elapsed = Duration::from_secs_f64(transactions as f64 / per_second);
        Ok(Inserted { rows: transactions * inserts.rows(), elapsed })
    }
}

/// The program beside the binaries of a server that was started here, else the one in `PATH`.
fn find(postgres: &Postgres) -> Option<PathBuf> {
    let server = postgres.pid().and_then(|pid| std::fs::read_link(format!("/proc/{pid}/exe")).ok());
    let beside = server.and_then(|server| Some(server.parent()?.to_path_buf()));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = beside.into_iter().chain(std::env::split_paths(&path));
    directories.map(|directory| directory.join("pgbench")).find(|program| program.is_file())
}

fn script_path(directory: &Path, inserts: Inserts) -> PathBuf {
    directory.join(format!("insert-{}.sql", inserts.rows()))
}

/// The variables of libpq for a URL, so that the password is in no argument.
fn environment(url: &str) -> anyhow::Result<Vec<(&'static str, String)>> {
    let url = Url::parse(url).context("the URL of the server is invalid")?;
    let values = [
        ("PGHOST", url.host_str().map(decoded)),
        ("PGPORT", url.port().map(|port| port.to_string())),
        ("PGUSER", Some(decoded(url.username()))),
        ("PGPASSWORD", url.password().map(decoded)),
        ("PGDATABASE", Some(decoded(url.path().trim_start_matches('/')))),
    ];
    Ok(values.into_iter().filter_map(|(name, value)| Some((name, value?))).collect())
}

/// Decodes a part of a URL. Only in a form, `+` and `&` have a meaning.
fn decoded(part: &str) -> String {
    let form = format!("part={}", part.replace('+', "%2B").replace('&', "%26"));
    let mut values = url::form_urlencoded::parse(form.as_bytes());
    values.next().map(|(_, value)| value.into_owned()).unwrap_or_default()
}

fn transactions_per_second(output: &str) -> Option<f64> {
    let rate = output.lines().find_map(|line| line.strip_prefix("tps = "))?;
    rate.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

    use super::*;

    #[test]
    fn rate_is_read_from_the_output() {
        let output = "latency average = 1.7 ms\n\
                      tps = 18432.250000 (without initial connection time)\n";
        assert_eq!(transactions_per_second(output), Some(18_432.25));
        assert_eq!(transactions_per_second("pgbench: error"), None);
    }

    #[test]
    fn password_goes_into_the_environment() {
        let found = environment("postgresql://u:p%40ss@127.0.0.1:5433/inserts_1").unwrap();
        let wanted = [
            ("PGHOST", "127.0.0.1"),
            ("PGPORT", "5433"),
            ("PGUSER", "u"),
            ("PGPASSWORD", "p@ss"),
            ("PGDATABASE", "inserts_1"),
        ];
        assert_eq!(found, wanted.map(|(name, value)| (name, value.to_owned())));
    }
}
