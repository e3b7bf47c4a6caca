//! `chaos up`: the whole system on one machine without Docker, for a person to try.

use clap::Args;

/// What `chaos up` can be told.
#[derive(Debug, Clone, Args)]
pub struct UpArgs {
    /// Port of the dispatcher's API on 127.0.0.1.
    #[arg(long, default_value_t = 8000)]
    pub port: u16,
    /// Port of the mock receiver on 127.0.0.1.
    #[arg(long, default_value_t = 8080)]
    pub receiver_port: u16,
    /// Forget the data of earlier starts.
    #[arg(long)]
    pub fresh: bool,
}

/// Runs the system until Ctrl-C or SIGTERM.
///
/// # Errors
/// When a port is taken, no Postgres can be had, or a part does not start.
pub async fn up(_args: UpArgs) -> anyhow::Result<()> {
    anyhow::bail!("not built yet")
}
