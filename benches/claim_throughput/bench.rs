//! What all parts of the benchmark share: the arguments, the runtime, the server and the
//! references.

use benches::args::Args;
use benches::cost::Meter;
use benches::http_pair::HttpPair;
use benches::load::PAYLOAD_BYTES;
use benches::path::Path;
use benches::pgbench::{Inserted, Inserts, Pgbench};
use benches::stand;
use chaos::postgres::Postgres;
use mock_receiver::{Behavior, script};
use tokio::runtime::Runtime;

/// The shared parts.
pub(crate) struct Bench {
    pub(crate) args: Args,
    pub(crate) runtime: Runtime,
    pub(crate) postgres: Postgres,
    pub(crate) meter: Meter,
    pub(crate) http_pair: HttpPair,
    pgbench: Option<Pgbench>,
}

impl Bench {
    pub(crate) fn open(args: Args) -> anyhow::Result<Self> {
        let runtime = Runtime::new()?;
        let (postgres, meter, pgbench, http_pair) = runtime.block_on(async {
            let postgres = stand::postgres().await?;
            let meter = Meter::open(&postgres).await?;
            let pgbench = Pgbench::open(&postgres, PAYLOAD_BYTES).await?;
            anyhow::Ok((postgres, meter, pgbench, HttpPair::open().await?))
        })?;
        if pgbench.is_none() {
            eprintln!(
                "references B1 and R2 are skipped, because pgbench is neither beside the server \
                 nor in PATH: install postgresql-contrib, or set PG_BIN to a directory that has it"
            );
        }
        Ok(Self { args, runtime, postgres, meter, http_pair, pgbench })
    }

    /// Inserts rows into the plain table. `None` without `pgbench`.
    pub(crate) async fn inserts(
        &self,
        inserts: Inserts,
        rows: u64,
    ) -> anyhow::Result<Option<Inserted>> {
        match &self.pgbench {
            Some(pgbench) => Ok(Some(pgbench.run(inserts, rows).await?)),
            None => Ok(None),
        }
    }

    /// Starts the dispatcher and instant receivers.
    pub(crate) fn path(&self, log: &str) -> anyhow::Result<Path> {
        let answer = script::always(Behavior::answer(200));
        self.runtime.block_on(Path::open(&self.postgres, &[("LOG", log)], &answer))
    }
}
