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

use compare::Growth;

fn main() -> ExitCode {
    exit_code(run())
}

fn run() -> anyhow::Result<()> {
    let args = Args::of_process()?;
    dispatcher::install_tls_provider();
    let table = tokio::runtime::Runtime::new()?.block_on(measure(&args))?;
    write!(std::io::stdout(), "\n{table}")?;
    args.save(&table)
}

async fn measure(args: &Args) -> anyhow::Result<Table> {
    let growth = Growth::open(args).await?;
    let conditions = Conditions::begin();
    let mut rows = Vec::new();
    rows.extend(growth.case("finished", tables::finished(&growth)).await?);
    rows.extend(growth.case("pending", tables::pending(&growth)).await?);
    rows.extend(growth.case("targets", receivers::targets(&growth)).await?);
    for bytes in [300, 4 << 10, 64 << 10] {
        rows.extend(growth.case("bodies", receivers::bodies(&growth, bytes)).await?);
    }
    rows.extend(growth.case("tls", tls::receivers(&growth)).await?);
    rows.extend(growth.case("slow", receivers::slow(&growth)).await?);
    rows.extend(growth.case("failures", receivers::failures(&growth)).await?);
    rows.extend(growth.case("horizon", horizon::held(&growth)).await?);
    rows.extend(growth.case("half_load", half_load::run(&growth)).await?);
    let conditions = conditions.end(growth.postgres.origin(), &growth.scale.remark());
    Ok(Table { conditions, rows })
}
