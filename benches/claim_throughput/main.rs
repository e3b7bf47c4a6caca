//! `cargo bench`: one table with claims, settles, accepts and the path of an event from the post to
//! `delivered`, each beside a reference from the same run. Takes less than ten minutes.
//!
//! `-- --save FILE` also writes the table. The flags of Criterion work: `-- --quick`, `-- --test`,
//! a filter. The benchmark finds or starts a Postgres with fsync on.

mod accept;
mod backlog;
mod bench;
mod claims;
mod end_to_end;
mod latency;
mod memory;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use benches::args::Args;
use benches::conditions::Conditions;
use benches::figures::exit_code;
use benches::table::Table;
use criterion::Criterion;

use bench::Bench;

fn main() -> ExitCode {
    exit_code(measure())
}

fn measure() -> anyhow::Result<()> {
    let args = Args::of_process()?;
    let mut criterion = Criterion::default()
        .without_plots()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(1_200))
        .configure_from_args();
    let bench = Bench::open(args)?;
    let conditions = Conditions::begin();
    let mut rows = claims::measure(&bench, &mut criterion)?;
    rows.extend(accept::measure(&bench, &mut criterion)?);
    rows.extend(end_to_end::measure(&bench, &mut criterion)?);
    rows.extend(latency::measure(&bench)?);
    rows.extend(backlog::measure(&bench)?);
    rows.extend(memory::measure(&bench)?);
    criterion.final_summary();
    let conditions = conditions.end(bench.postgres.origin(), bench.args.load("", "only a test; "));
    let table = Table { conditions, rows };
    if !table.rows.is_empty() {
        write!(std::io::stdout(), "\n{table}")?;
    }
    bench.args.save(&table)
}
