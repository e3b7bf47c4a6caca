//! Binds the address, serves until a signal, and stops.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use mock_receiver::config::Config;
use mock_receiver::{Journal, Receiver};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Serves until SIGTERM or SIGINT.
pub(crate) async fn serve(config: Config) -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let use_colors = std::io::stdout().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(use_colors)
        .init();
    let bind = config.bind;
    let listener = TcpListener::bind(bind).await.with_context(|| format!("binding {bind}"))?;
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let script = config.demo.into_script();
    let journal = Journal::bounded(config.receipts_max);
    let receiver = Receiver::start(listener, config.secrets, script, journal);
    tracing::info!("listening on {}; replay: SEED={:#x}", receiver.address(), config.demo.seed);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    receiver.stop().await;
    tracing::info!("stopped");
    Ok(())
}
