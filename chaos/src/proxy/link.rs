//! State that a proxy shares with the connections of its link.

use std::net::SocketAddr;

use tokio::sync::{broadcast, watch};

use super::control::{Control, Effects};
use super::postgres::Statement;

/// A statement that a Postgres link has forwarded or is about to forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// A worker sent this statement. The link forwards it to the server next.
    Sent(Statement),
    /// The server committed this statement and it changed rows. The link forwards its reply next.
    Committed(Statement),
}

/// Protocol of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Any protocol. The link does not parse the bytes.
    Bytes,
    /// The Postgres protocol without TLS.
    Postgres,
}

/// The control of a link.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    pub(super) control: Control,
    /// Restricts the control to the connection with this client port on the server side.
    pub(super) only: Option<u16>,
    /// Number of settings before this one. It distinguishes two settings of equal controls.
    pub(super) number: u64,
}

impl Setting {
    /// Returns the control of the connection with this client port on the server side.
    pub(super) fn control_of(self, port: Option<u16>) -> Control {
        if self.only.is_none() || self.only == port { self.control } else { Control::Pass }
    }
}

/// Effects of one setting.
#[derive(Debug, Default)]
pub(super) struct NumberedEffects {
    /// Number of the setting.
    pub(super) number: u64,
    pub(super) effects: Effects,
}

/// State that all connections of a link share.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) upstream: watch::Receiver<SocketAddr>,
    pub(super) protocol: Protocol,
    pub(super) setting: watch::Receiver<Setting>,
    pub(super) effects: watch::Sender<NumberedEffects>,
    pub(super) passed: broadcast::Sender<Passed>,
}

impl Link {
    /// Records an effect of `setting`. Discards it if another setting is current.
    pub(super) fn note(&self, setting: Setting, change: impl FnOnce(&mut Effects)) {
        self.effects.send_if_modified(|numbered| {
            let is_current = numbered.number == setting.number;
            if is_current {
                change(&mut numbered.effects);
            }
            is_current
        });
    }
}
