//! `chaos up`: the system that compose starts, for a person without Docker. Postgres from wherever
//! it can be had, dispatcher and mock receiver as child processes, their logs on the terminal.
//!
//! Data is kept between starts. A server that was given by URL is used as it is; otherwise own
//! binaries come before a container here, because a directory can be kept, looked at and removed
//! without an engine. Nothing outlives this process, however it ends.

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

/// The secret that both sides share unless the environment names one.
const DEFAULT_SECRET: &str = "change-me-in-production";
/// Loopback, which the dispatcher otherwise refuses as a target.
const LOOPBACK: &str = "127.0.0.0/8,::1/128";
/// Bound from start to ready, seconds.
const READY_SECONDS_MAX: Duration = Duration::from_secs(60);
/// How long the dispatcher may finish what is in flight, seconds: above its own bound of 20.
const DISPATCHER_GRACE: Duration = Duration::from_secs(25);
/// How long the mock receiver may take to end, seconds.
const RECEIVER_GRACE: Duration = Duration::from_secs(5);

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
/// When a port is taken, no Postgres can be had, or a part does not start or ends by itself.
pub async fn up(args: UpArgs) -> anyhow::Result<()> {
    // Caught from the first moment on: a Ctrl-C during the start must end what was started.
    let mut signals = Signals::new()?;
    check_port(args.port, "--port")?;
    check_port(args.receiver_port, "--receiver-port")?;
    if args.port == args.receiver_port {
        bail!("dispatcher and receiver cannot share port {}", args.port);
    }
    let mut system = tokio::select! {
        started = start(&args) => started?,
        () = signals.asked_to_end() => return Ok(()),
    };
    show(&teaching(args.port));
    let ended = tokio::select! {
        ended = system.a_part_ends() => Some(ended),
        () = signals.asked_to_end() => None,
    };
    say("ending: what is in flight is finished first; Ctrl-C again does not wait");
    tokio::select! {
        () = system.end() => {}
        () = signals.asked_to_end() => {}
    }
    drop(system);
    match ended {
        Some(ended) => bail!("{ended}; its last lines are above"),
        None => Ok(()),
    }
}

/// The running parts, in the order in which they are dropped: the server goes last.
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
    say(&format!("Postgres by {}", postgres.origin()));
    let receiver = start_receiver(&receiver, args).await?;
    let dispatcher = start_dispatcher(&dispatcher, args, database_url).await?;
    Ok(Running {
        dispatcher,
        receiver,
        _postgres: postgres,
    })
}

async fn start_receiver(program: &Path, args: &UpArgs) -> anyhow::Result<Part> {
    let bind = loopback(args.receiver_port);
    let env = BTreeMap::from([("BIND", bind.to_string()), ("WEBHOOK_SECRET", secret())]);
    let part = Part::start("receiver", program, &env)?;
    part.wait_ready(bind, "/healthz", READY_SECONDS_MAX).await?;
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
    part.wait_ready(bind, "/readyz", READY_SECONDS_MAX).await?;
    Ok(part)
}

impl Running {
    async fn a_part_ends(&mut self) -> String {
        tokio::select! {
            ended = self.dispatcher.ended() => ended,
            ended = self.receiver.ended() => ended,
        }
    }

    /// The dispatcher first: its open attempts still need the receiver and the database.
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

    async fn asked_to_end(&mut self) {
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
    let given = std::env::var("WEBHOOK_SECRET")
        .ok()
        .filter(|secret| !secret.is_empty());
    given.unwrap_or_else(|| DEFAULT_SECRET.to_owned())
}

fn check_port(port: u16, option: &str) -> anyhow::Result<()> {
    match TcpListener::bind(loopback(port)) {
        Ok(_) => Ok(()),
        Err(error) => {
            bail!("port {port} cannot be had ({error}): end what uses it, or choose by {option}")
        }
    }
}

fn teaching(port: u16) -> String {
    let api = format!("http://127.0.0.1:{port}/events");
    format!(
        "\nReady. Post an event to the mock receiver, then follow it by the id in the answer:\n\n\
         curl -sS -X POST {api} -H 'content-type: application/json' \
         -d '{{\"payload\":{{\"hello\":\"world\"}}}}'\n\
         curl -sS {api}/ID\n\n\
         Ctrl-C ends everything.\n"
    )
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

    use super::*;
    use crate::host::free_port;

    #[test]
    fn a_taken_port_gives_one_line_that_names_the_option() {
        let listener = TcpListener::bind(loopback(free_port())).unwrap();
        let port = listener.local_addr().unwrap().port();
        let error = check_port(port, "--port").unwrap_err().to_string();
        assert!(
            error.contains(&port.to_string()) && error.ends_with("--port"),
            "{error}"
        );
        assert!(!error.contains('\n'));
    }

    #[test]
    fn the_line_to_try_is_the_one_of_the_chosen_port() {
        let text = teaching(8123);
        assert!(text.contains(
            "curl -sS -X POST http://127.0.0.1:8123/events -H 'content-type: application/json' \
             -d '{\"payload\":{\"hello\":\"world\"}}'"
        ));
    }
}
