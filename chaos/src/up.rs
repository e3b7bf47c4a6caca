//! `chaos up`: starts Postgres, dispatcher and mock receiver for a person without Docker.
//!
//! Dispatcher and receiver are child processes, and their logs appear on the terminal. The data is
//! kept between starts. A server from `CHAOS_DATABASE_URL` is used unchanged. Otherwise installed
//! binaries come before a container, because their data directory is kept. All processes end with
//! this one.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

mod data;
mod part;
mod terminal;

use crate::binary::{dispatcher_binary, mock_receiver_binary};
use crate::postgres::Postgres;
use part::Part;
use terminal::{say, show};

/// The secret of dispatcher and receiver if `WEBHOOK_SECRET` is not set.
const DEFAULT_SECRET: &str = "change-me-in-production";
/// Loopback addresses. By default, the dispatcher refuses them as targets.
const LOOPBACK: &str = "127.0.0.0/8,::1/128";
/// Maximum time from start to ready.
const READY_MAX: Duration = Duration::from_secs(60);
/// Grace of the dispatcher after SIGTERM. Its own limit for open attempts is 20 s.
const DISPATCHER_GRACE: Duration = Duration::from_secs(25);
/// Grace of the mock receiver after SIGTERM.
const RECEIVER_GRACE: Duration = Duration::from_secs(5);

/// The flags of `chaos up`.
#[derive(Debug, Clone, Args)]
pub struct UpArgs {
    /// Port of the dispatcher's API on 127.0.0.1.
    #[arg(long, default_value_t = 8000)]
    pub port: u16,
    /// Port of the mock receiver on 127.0.0.1.
    #[arg(long, default_value_t = 8080)]
    pub receiver_port: u16,
    /// Delete the data of earlier starts.
    #[arg(long)]
    pub fresh: bool,
}

/// Runs the system until Ctrl-C or SIGTERM.
///
/// # Errors
/// Returns an error if a port is in use, if no Postgres is available, or if a process exits.
pub async fn up(args: UpArgs) -> anyhow::Result<()> {
    // Listen before anything starts: Ctrl-C during the start must end the started processes.
    let mut signals = Signals::new()?;
    check_port(args.port, "--port")?;
    check_port(args.receiver_port, "--receiver-port")?;
    if args.port == args.receiver_port {
        bail!("dispatcher and receiver cannot share port {}", args.port);
    }
    let mut system = tokio::select! {
        started = start(&args) => started?,
        () = signals.received() => return Ok(()),
    };
    show(&instructions(args.port));
    let ended = tokio::select! {
        ended = system.any_exit() => Some(ended),
        () = signals.received() => None,
    };
    say("stopping: open attempts are finished first; press Ctrl-C again to stop immediately");
    tokio::select! {
        () = system.end() => {}
        () = signals.received() => {}
    }
    drop(system);
    match ended {
        Some(ended) => bail!("{ended}; its last lines are above"),
        None => Ok(()),
    }
}

/// The running processes, in drop order: Postgres is stopped last.
struct Running {
    dispatcher: Part,
    receiver: Part,
    _postgres: Postgres,
}

async fn start(args: &UpArgs) -> anyhow::Result<Running> {
    say("building dispatcher and mock receiver");
    let programs =
        tokio::task::spawn_blocking(|| anyhow::Ok((dispatcher_binary()?, mock_receiver_binary()?)));
    let (dispatcher, receiver) = programs.await.context("building")??;
    let (postgres, database_url) = data::postgres(args.fresh).await?;
    say(&format!("Postgres: {}", postgres.origin()));
    let receiver = start_receiver(&receiver, args).await?;
    let dispatcher = start_dispatcher(&dispatcher, args, database_url).await?;
    Ok(Running { dispatcher, receiver, _postgres: postgres })
}

async fn start_receiver(program: &Path, args: &UpArgs) -> anyhow::Result<Part> {
    let bind = loopback(args.receiver_port);
    let env = BTreeMap::from([("BIND", bind.to_string()), ("WEBHOOK_SECRET", secret())]);
    let part = Part::start("receiver", program, &env)?;
    part.wait_ready(bind, "/healthz", READY_MAX).await?;
    Ok(part)
}

async fn start_dispatcher(
    program: &Path,
    args: &UpArgs,
    database_url: String,
) -> anyhow::Result<Part> {
    let bind = loopback(args.port);
    let receiver = loopback(args.receiver_port);
    let env = BTreeMap::from([
        ("BIND", bind.to_string()),
        ("DATABASE_URL", database_url),
        ("TARGET_URL", format!("http://{receiver}/webhook")),
        ("ALLOWED_TARGET_CIDRS", LOOPBACK.to_owned()),
        ("WEBHOOK_SECRET", secret()),
    ]);
    let part = Part::start("dispatcher", program, &env)?;
    part.wait_ready(bind, "/readyz", READY_MAX).await?;
    Ok(part)
}

impl Running {
    async fn any_exit(&mut self) -> String {
        tokio::select! {
            ended = self.dispatcher.ended() => ended,
            ended = self.receiver.ended() => ended,
        }
    }

    /// Stops the dispatcher first: its open attempts need the receiver and the database.
    async fn end(&mut self) {
        self.dispatcher.terminate(DISPATCHER_GRACE).await;
        self.receiver.terminate(RECEIVER_GRACE).await;
    }
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("listening for signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    async fn received(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn secret() -> String {
    let given = std::env::var("WEBHOOK_SECRET").ok().filter(|secret| !secret.is_empty());
    given.unwrap_or_else(|| DEFAULT_SECRET.to_owned())
}

fn check_port(port: u16, option: &str) -> anyhow::Result<()> {
    match TcpListener::bind(loopback(port)) {
        Ok(_) => Ok(()),
        Err(error) => {
            bail!(
                "port {port} is not available ({error}): stop the process that uses it, or set \
                 {option}"
            )
        }
    }
}

fn instructions(port: u16) -> String {
    let api = format!("http://127.0.0.1:{port}/events");
    format!(
        "\nReady. Post an event for the mock receiver, then read it by the id in the response:\n\n\
         curl -sS -X POST {api} -H 'content-type: application/json' \
         -d '{{\"payload\":{{\"hello\":\"world\"}}}}'\n\
         curl -sS {api}/ID\n\n\
         Ctrl-C stops all processes.\n"
    )
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

    use super::*;
    use crate::host::free_port;

    #[test]
    fn port_in_use_gives_one_line_with_the_option() {
        let listener = TcpListener::bind(loopback(free_port())).unwrap();
        let port = listener.local_addr().unwrap().port();
        let error = check_port(port, "--port").unwrap_err().to_string();
        assert!(error.contains(&port.to_string()) && error.ends_with("--port"), "{error}");
        assert!(!error.contains('\n'));
    }

    #[test]
    fn instructions_use_the_chosen_port() {
        let text = instructions(8123);
        assert!(text.contains(
            "curl -sS -X POST http://127.0.0.1:8123/events -H 'content-type: application/json' \
             -d '{\"payload\":{\"hello\":\"world\"}}'"
        ));
    }
}
