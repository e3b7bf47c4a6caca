//! `cargo bench -p benches --bench growth`: end-to-end rates under conditions that slow a queue
//! down, each as a ratio to an empty dispatcher that is measured in alternation. Takes an hour.
//!
//! A filter selects cases. `GROWTH_SCALE=0.1` shortens durations and fills, and `-- --save FILE`
//! writes the table.

mod compare;
mod half_load;
mod horizon;
mod receivers;
mod tables;
mod tls;

use std::io::Write;
use std::process::ExitCode;

use benches::args::Args;
use benches::conditions::Conditions;
use benches::figures::exit_code;
use benches::table::Table;

use compare::{Growth, Results};

fn main() -> ExitCode {
    exit_code(run())
}

fn run() -> anyhow::Result<()> {
    let args = Args::of_process()?;
    dispatcher::install_tls_provider();
    let (table, failed) = tokio::runtime::Runtime::new()?.block_on(measure(&args))?;
    write!(std::io::stdout(), "\n{table}")?;
    args.save(&table)?;
    anyhow::ensure!(failed.is_empty(), "cases without a row, see above: {}", failed.join(", "));
    Ok(())
}

/// Returns the table and the names of the cases that failed.
async fn measure(args: &Args) -> anyhow::Result<(Table, Vec<&'static str>)> {
    let growth = Growth::open(args).await?;
    let conditions = Conditions::begin();
    let mut results = Results::default();
    let all = &mut results;
    growth.case("finished", all, tables::finished(&growth)).await;
    growth.case("pending", all, tables::pending(&growth)).await;
    growth.case("targets", all, receivers::targets(&growth)).await;
    for bytes in [300, 4 << 10, 64 << 10] {
        growth.case("bodies", all, receivers::bodies(&growth, bytes)).await;
    }
    growth.case("tls", all, tls::receivers(&growth)).await;
    growth.case("slow", all, receivers::slow(&growth)).await;
    growth.case("failures", all, receivers::failures(&growth)).await;
    growth.case("horizon", all, horizon::held(&growth)).await;
    growth.case("half_load", all, half_load::run(&growth)).await;
    let conditions = conditions.end(growth.postgres.origin(), &growth.scale.remark());
    Ok((Table { conditions, rows: results.rows }, results.failed))
}
