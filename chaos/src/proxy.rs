//! A TCP proxy on loopback: one link of the system, which a fault can slow, stall, cut or rob of a
//! reply while connections live.
//!
//! It acts on bytes, and on a Postgres link it also tells which statement was sent and which is
//! committed. It draws nothing and decides nothing: the nemesis says when a control changes.

mod carry;
mod postgres;

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub use postgres::Statement;

/// Connections that may wait to be accepted.
const BACKLOG_CONNECTIONS: u32 = 1_024;
/// Statements that a slow reader of a Postgres link may lag behind; then it misses the oldest.
const PASSED_STATEMENTS_MAX: usize = 1_024;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the side that connects.
    Up,
    /// From the side that accepts.
    Down,
}

/// What a link does with bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Passes them on.
    Pass,
    /// Passes them late: each piece by `delay_ms`, and up to `jitter_ms` more.
    Late {
        /// Least delay, in milliseconds.
        delay_ms: u64,
        /// What is added at most, in milliseconds.
        jitter_ms: u64,
    },
    /// Passes so many bytes a millisecond, of each direction of each connection.
    Slow {
        /// That many, at least one.
        bytes_per_ms: u32,
    },
    /// Keeps back what comes, and passes it when the control is another: nothing is lost.
    Stall,
    /// Accepts, swallows both directions and never says that an end was reached.
    BlackHole,
    /// A black hole of which the accepting side is told: it sees its connections reset, and whoever
    /// connected goes on believing in them.
    HalfOpen,
    /// Swallows one direction.
    Swallow(Direction),
    /// Resets each connection after so many more bytes of a direction; those before are passed.
    ResetAt(Direction, u64),
    /// Refuses new connections and resets those that live.
    Refuse,
    /// Resets one connection, once, after the commit of such a statement and before its reply is passed.
    CutCommit(Statement),
}

impl Control {
    /// True when a connection cannot go on after this has taken bytes from it.
    const fn swallows(self, direction: Direction) -> bool {
        match self {
            Control::BlackHole | Control::HalfOpen => true,
            Control::Swallow(Direction::Up) => matches!(direction, Direction::Up),
            Control::Swallow(Direction::Down) => matches!(direction, Direction::Down),
            _ => false,
        }
    }

    /// True when what passes in a direction is never answered.
    const fn swallows_answers_to(self, direction: Direction) -> bool {
        match direction {
            Direction::Up => self.swallows(Direction::Down),
            Direction::Down => self.swallows(Direction::Up),
        }
    }

    /// True when new connections lead nowhere.
    const fn leads_nowhere(self) -> bool {
        matches!(self, Control::BlackHole | Control::HalfOpen)
    }
}

/// What a control did since it was set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// The connections that it touched, by their number on the link.
    pub connections: BTreeSet<u64>,
    /// Bytes that it swallowed.
    pub swallowed_bytes: u64,
    /// Pieces that it passed late.
    pub late_pieces: u64,
    /// Connections that it reset.
    pub resets: u64,
    /// Connections on which it keeps back what the connecting side says.
    pub stalled: BTreeSet<u64>,
    /// The committed statement whose reply was cut.
    pub cut: Option<Statement>,
}

/// What passed on a Postgres link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// A worker sent this statement; the server is about to get it.
    Sent(Statement),
    /// The server committed this statement, with effect; its reply is about to be passed.
    Committed(Statement),
}

/// What is spoken on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    /// Bytes that nobody reads.
    Bytes,
    /// The Postgres protocol, without TLS.
    Postgres,
}

/// The control of a link and how often it was set: connections that live see each setting.
#[derive(Clone, Copy, Debug)]
struct Setting {
    control: Control,
    /// The one connection that it is for, by the port from which the accepting side sees it come.
    only: Option<u16>,
    number: u64,
}

impl Setting {
    /// What it means for the connection that comes from a port.
    fn control_of(self, port: Option<u16>) -> Control {
        if self.only.is_none() || self.only == port {
            self.control
        } else {
            Control::Pass
        }
    }
}

/// What the connections of a link share.
#[derive(Debug)]
struct Link {
    upstream: watch::Receiver<SocketAddr>,
    speech: Speech,
    setting: watch::Receiver<Setting>,
    effects: watch::Sender<(u64, Effects)>,
    passed: broadcast::Sender<Passed>,
}

impl Link {
    /// Notes an effect of the setting; one of a setting that is over is forgotten.
    fn note(&self, setting: Setting, what: impl FnOnce(&mut Effects)) {
        self.effects.send_if_modified(|(number, effects)| {
            let current = *number == setting.number;
            if current {
                what(effects);
            }
            current
        });
    }
}

/// One link. Dropping it resets its connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    upstream: watch::Sender<SocketAddr>,
    setting: watch::Sender<Setting>,
    effects: watch::Sender<(u64, Effects)>,
    passed: broadcast::Sender<Passed>,
    accepting: JoinHandle<()>,
    // Bound and never listening: the port stays ours while connections are refused.
    _reserved: TcpSocket,
}

impl Proxy {
    /// A link that leads to `upstream`, on a free port of loopback.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn start(upstream: SocketAddr, speech: Speech) -> io::Result<Proxy> {
        let reserved = bound(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = reserved.local_addr()?;
        let listener = bound(address)?.listen(BACKLOG_CONNECTIONS)?;
        let first = Setting {
            control: Control::Pass,
            only: None,
            number: 0,
        };
        let (upstream, leads_to) = watch::channel(upstream);
        let (setting, seen) = watch::channel(first);
        let (effects, _) = watch::channel((0, Effects::default()));
        let (passed, _) = broadcast::channel(PASSED_STATEMENTS_MAX);
        let link = Arc::new(Link {
            upstream: leads_to,
            speech,
            setting: seen,
            effects: effects.clone(),
            passed: passed.clone(),
        });
        Ok(Proxy {
            address,
            upstream,
            setting,
            effects,
            passed,
            accepting: tokio::spawn(accept(listener, address, link)),
            _reserved: reserved,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets what it does from now on, on connections that live and on new ones; effects are counted anew.
    /// A connection that lost bytes cannot go on: it is reset.
    pub fn set(&self, control: Control) {
        self.replace(control, None);
    }

    /// The same for one connection alone, by the port from which the accepting side sees it come; all
    /// others pass.
    pub fn set_on(&self, port: u16, control: Control) {
        self.replace(control, Some(port));
    }

    fn replace(&self, control: Control, only: Option<u16>) {
        let number = self.setting.borrow().number + 1;
        self.effects.send_replace((number, Effects::default()));
        self.setting.send_replace(Setting {
            control,
            only,
            number,
        });
    }

    /// Leads to another address, from the next connection on.
    pub fn lead_to(&self, upstream: SocketAddr) {
        self.upstream.send_replace(upstream);
    }

    /// What the control did since it was set.
    #[must_use]
    pub fn effects(&self) -> Effects {
        self.effects.borrow().1.clone()
    }

    /// Waits until the effects are as wanted; false when they are not in time.
    pub async fn sees(&self, within: Duration, wanted: impl Fn(&Effects) -> bool) -> bool {
        let mut effects = self.effects.subscribe();
        let seen = effects.wait_for(|(_, effects)| wanted(effects));
        timeout(within, seen).await.is_ok_and(|seen| seen.is_ok())
    }

    /// What passes from now on, on a Postgres link.
    #[must_use]
    pub fn passed(&self) -> broadcast::Receiver<Passed> {
        self.passed.subscribe()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.set(Control::Refuse);
    }
}

/// Several sockets may be bound to a port as long as none but one listens.
fn bound(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

async fn accept(first: TcpListener, address: SocketAddr, link: Arc<Link>) {
    let (mut listener, mut setting, mut number) = (Some(first), link.setting.clone(), 0_u64);
    loop {
        let refuses = setting.borrow_and_update().control_of(None) == Control::Refuse;
        if refuses {
            listener = None;
        } else if listener.is_none() {
            let again = bound(address).and_then(|socket| socket.listen(BACKLOG_CONNECTIONS));
            listener = Some(again.expect("the port is reserved"));
        }
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            changed = setting.changed() => if changed.is_err() { return },
            accepted = accepted => if let Ok((client, _)) = accepted {
                number += 1;
                tokio::spawn(carry::connection(client, Arc::clone(&link), number));
            },
        }
    }
}

#[cfg(test)]
mod tests;
