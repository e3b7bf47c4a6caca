//! A TCP proxy on loopback for one link of the system. A fault can delay, stall, drop or reset its
//! open connections, or drop the reply to a commit.
//!
//! On a Postgres link the proxy also reports which statements were sent and which were committed.
//! It draws nothing and decides nothing: the nemesis sets the control.

mod carry;
mod control;
mod link;
mod postgres;
mod view;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub use control::{Control, Direction, Effects};
use link::{Link, NumberedEffects, Setting};
pub use link::{Passed, Protocol};
pub use postgres::Statement;

/// Length of the accept queue of a link.
const BACKLOG_CONNECTIONS: u32 = 1_024;
/// Number of statements that a Postgres link buffers for a slow reader. A reader that is further
/// behind misses the oldest.
const STATEMENTS_BUFFERED_MAX: usize = 1_024;

/// The proxy of one link. Dropping it resets its connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    upstream: watch::Sender<SocketAddr>,
    setting: watch::Sender<Setting>,
    effects: watch::Sender<NumberedEffects>,
    passed: broadcast::Sender<Passed>,
    accepting: JoinHandle<()>,
    /// Bound without listening, so that no other program takes the port while connections are
    /// refused.
    _reserved: TcpSocket,
}

impl Proxy {
    /// Starts a link to `upstream` on a free loopback port.
    ///
    /// # Errors
    /// If no port is free.
    pub fn start(upstream: SocketAddr, protocol: Protocol) -> io::Result<Self> {
        let reserved = bound(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = reserved.local_addr()?;
        let listener = bound(address)?.listen(BACKLOG_CONNECTIONS)?;
        let first = Setting { control: Control::Pass, only: None, number: 0 };
        let (upstream, upstream_receiver) = watch::channel(upstream);
        let (setting, setting_receiver) = watch::channel(first);
        let (effects, _) = watch::channel(NumberedEffects::default());
        let (passed, _) = broadcast::channel(STATEMENTS_BUFFERED_MAX);
        let link = Arc::new(Link {
            upstream: upstream_receiver,
            protocol,
            setting: setting_receiver,
            effects: effects.clone(),
            passed: passed.clone(),
        });
        Ok(Self {
            address,
            upstream,
            setting,
            effects,
            passed,
            accepting: tokio::spawn(accept(listener, address, link)),
            _reserved: reserved,
        })
    }

    /// Returns the listening address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets the control of open and new connections, and clears the effects. A connection that lost
    /// bytes under the previous control is reset.
    pub fn set(&self, control: Control) {
        self.replace(control, None);
    }

    /// Sets the control of the one connection whose client port on the server side is `port`. All
    /// other connections get [`Control::Pass`].
    pub fn set_on(&self, port: u16, control: Control) {
        self.replace(control, Some(port));
    }

    fn replace(&self, control: Control, only: Option<u16>) {
        let number = self.setting.borrow().number + 1;
        self.effects.send_replace(NumberedEffects { number, effects: Effects::default() });
        self.setting.send_replace(Setting { control, only, number });
    }

    /// Sets the server address of new connections. Open connections keep theirs.
    pub fn set_upstream(&self, upstream: SocketAddr) {
        self.upstream.send_replace(upstream);
    }

    /// Returns the effects of the current control.
    pub fn effects(&self) -> Effects {
        self.effects.borrow().effects.clone()
    }

    /// Waits until `wanted` returns true for the effects. Returns false if it does not within the
    /// limit.
    pub async fn sees(&self, within: Duration, wanted: impl Fn(&Effects) -> bool) -> bool {
        let mut effects = self.effects.subscribe();
        let seen = effects.wait_for(|numbered| wanted(&numbered.effects));
        timeout(within, seen).await.is_ok_and(|seen| seen.is_ok())
    }

    /// Subscribes to the statements of a Postgres link.
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

/// Binds a socket. Several sockets can be bound to one port if only one of them listens.
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
            listener = Some(again.expect("the reserved socket keeps the port"));
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
