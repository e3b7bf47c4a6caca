//! The state of one connection under the settings of its link, and the black hole.

use tokio::io::AsyncReadExt;
use tokio::net::tcp::ReadHalf;
use tokio::sync::watch;

use super::control::{Control, Direction, Effects};
use super::link::{Link, Setting};

/// Maximum number of bytes that are read and forwarded together.
pub(super) const PIECE_BYTES_MAX: usize = 16 * 1024;

/// A connection's view of the settings of its link.
pub(super) struct View<'l> {
    pub(super) link: &'l Link,
    number: u64,
    /// Client port on the server side. `None` until the server side is connected.
    pub(super) port: Option<u16>,
    pub(super) setting: watch::Receiver<Setting>,
    pub(super) current: Setting,
    /// True if bytes were dropped. The bytes after them have no meaning for the receiver.
    pub(super) lost_bytes: bool,
    /// Number of bytes forwarded under the current setting.
    pub(super) passed_bytes: u64,
}

impl<'l> View<'l> {
    pub(super) fn new(link: &'l Link, number: u64, port: Option<u16>) -> Self {
        let mut setting = link.setting.clone();
        let current = *setting.borrow_and_update();
        Self { link, number, port, setting, current, lost_bytes: false, passed_bytes: 0 }
    }

    /// Reads the newest setting and returns its control for this connection.
    pub(super) fn update(&mut self) -> Control {
        let newest = *self.setting.borrow_and_update();
        if newest.number != self.current.number {
            self.current = newest;
            self.passed_bytes = 0;
        }
        newest.control_of(self.port)
    }

    /// Waits until the control is not a stall, and returns it. Returns `None` if the link is
    /// dropped.
    pub(super) async fn wait_for_stall_end(&mut self, direction: Direction) -> Option<Control> {
        loop {
            let control = self.update();
            if control != Control::Stall {
                return Some(control);
            }
            self.note(|effects| {
                if direction == Direction::Up {
                    effects.stalled.insert(self.number);
                }
            });
            self.setting.changed().await.ok()?;
        }
    }

    /// Records an effect of the current setting on this connection.
    pub(super) fn note(&self, change: impl FnOnce(&mut Effects)) {
        self.link.note(self.current, |effects| {
            effects.connections.insert(self.number);
            change(effects);
        });
    }

    /// Records dropped bytes.
    pub(super) fn note_swallowed(&mut self, bytes: usize) {
        self.lost_bytes = true;
        self.note(|effects| effects.swallowed_bytes += bytes as u64);
    }

    /// Drops bytes while the link is a black hole, and returns when it is none. Never returns if it
    /// is none at the start.
    pub(super) async fn swallow_black_hole(&mut self, from: &mut ReadHalf<'_>) {
        if !self.update().is_black_hole() {
            return std::future::pending().await;
        }
        self.swallow_while_black_hole(from).await;
    }

    /// Drops bytes while the link is a black hole. Returns immediately if it is none.
    pub(super) async fn swallow_while_black_hole(&mut self, from: &mut ReadHalf<'_>) {
        if !self.update().is_black_hole() {
            return;
        }
        let mut buffer = vec![0; PIECE_BYTES_MAX];
        let mut open = true;
        loop {
            tokio::select! {
                biased;
                changed = self.setting.changed() => if changed.is_err() || !self.update().is_black_hole() {
                    return;
                },
                read = from.read(&mut buffer), if open => match read {
                    Ok(bytes @ 1..) => self.note_swallowed(bytes),
                    _ => open = false,
                },
            }
        }
    }
}
