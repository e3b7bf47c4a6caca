//! Costs of a load: time, CPU of the dispatcher and of Postgres, bytes of WAL, and transactions
//! that wrote.
//!
//! WAL and transactions are those of the whole server, so only one load may run at a time.

use std::time::Duration;

use chaos::postgres::Postgres;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::time::Instant;

use crate::figures::rate;
use crate::processes;

// A transaction that only reads gets no id. The number of the next one is read without using one.
const WRITTEN: &str = "
select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint, pg_snapshot_xmax(pg_current_snapshot())::text::bigint";

const KIB: f64 = 1_024.0;

/// Reads the costs of a server and of a dispatcher.
#[derive(Clone, Debug)]
pub struct Meter {
    pool: PgPool,
    postgres: Option<u32>,
}

/// The costs of a load.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    /// Events, rows or requests.
    pub events: u64,
    /// Time from the first to the last of them.
    pub elapsed: Duration,
    /// CPU time of the dispatcher.
    pub dispatcher: Duration,
    /// CPU time of Postgres. `None` if it runs in a container or on another machine.
    pub postgres: Option<Duration>,
    /// Bytes of WAL.
    pub wal_bytes: u64,
    /// Transactions that wrote.
    pub transactions: u64,
}

#[derive(Clone, Copy)]
struct Reading {
    dispatcher: Duration,
    postgres: Option<Duration>,
    wal_bytes: u64,
    transactions: u64,
}

impl Meter {
    /// Opens a session of the meter.
    ///
    /// # Errors
    /// If the server does not respond.
    pub async fn open(postgres: &Postgres) -> anyhow::Result<Self> {
        let pool = PgPoolOptions::new().max_connections(1).connect(postgres.admin_url()).await?;
        Ok(Self { pool, postgres: postgres.pid() })
    }

    /// Runs `work` and returns its costs, with the CPU time of the dispatcher `pid`.
    ///
    /// # Errors
    /// If the work or a query fails.
    pub async fn measure(
        &self,
        pid: Option<u32>,
        events: u64,
        work: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<Load> {
        let (before, began) = (self.read(pid).await?, Instant::now());
        work.await?;
        let elapsed = began.elapsed();
        let after = self.read(pid).await?;
        Ok(Load {
            events,
            elapsed,
            dispatcher: after.dispatcher.saturating_sub(before.dispatcher),
            postgres: after
                .postgres
                .zip(before.postgres)
                .map(|(after, before)| after.saturating_sub(before)),
            wal_bytes: after.wal_bytes - before.wal_bytes,
            transactions: after.transactions - before.transactions,
        })
    }

    async fn read(&self, pid: Option<u32>) -> anyhow::Result<Reading> {
        let (wal_bytes, transactions): (i64, i64) =
            sqlx::query_as(WRITTEN).fetch_one(&self.pool).await?;
        Ok(Reading {
            dispatcher: pid.map_or(Duration::ZERO, processes::cpu),
            postgres: self.postgres.map(processes::cpu),
            wal_bytes: wal_bytes.try_into()?,
            transactions: transactions.try_into()?,
        })
    }
}

impl Load {
    /// The sum of several loads.
    pub fn sum<'a>(loads: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut loads = loads.into_iter();
        let first = loads.next().copied().unwrap_or_default();
        loads.fold(first, |sum, load| Self {
            events: sum.events + load.events,
            elapsed: sum.elapsed + load.elapsed,
            dispatcher: sum.dispatcher + load.dispatcher,
            postgres: sum.postgres.zip(load.postgres).map(|(sum, load)| sum + load),
            wal_bytes: sum.wal_bytes + load.wal_bytes,
            transactions: sum.transactions + load.transactions,
        })
    }

    /// Events per second.
    pub fn rate(&self) -> f64 {
        rate(self.events, self.elapsed)
    }

    /// Milliseconds of CPU time per event of dispatcher and Postgres. NaN if the one of Postgres is
    /// not visible.
    pub fn cpu_ms(&self) -> f64 {
        let both = self.postgres.map(|postgres| self.dispatcher + postgres);
        both.map_or(f64::NAN, |both| both.as_secs_f64() * 1_000.0 / self.events as f64)
    }

    /// KiB of WAL per event beyond a body of this size.
    pub fn wal_kib_beyond(&self, body_bytes: usize) -> f64 {
        (self.wal_bytes as f64 / self.events as f64 - body_bytes as f64) / KIB
    }

    /// Transactions that wrote, per event.
    pub fn commits(&self) -> f64 {
        self.transactions as f64 / self.events as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_per_event_of_all_loads() {
        let load = Load {
            events: 100,
            elapsed: Duration::from_millis(10),
            dispatcher: Duration::from_millis(4),
            postgres: Some(Duration::from_millis(6)),
            wal_bytes: 100 * 1_324,
            transactions: 5,
        };
        let sum = Load::sum([&load, &load]);
        assert!((sum.rate() - 10_000.0).abs() < 1e-6);
        assert!((sum.cpu_ms() - 0.1).abs() < 1e-9);
        assert!((sum.wal_kib_beyond(300) - 1.0).abs() < 1e-9);
        assert!((sum.commits() - 0.05).abs() < 1e-9);
        assert!(Load { postgres: None, ..load }.cpu_ms().is_nan());
    }
}
