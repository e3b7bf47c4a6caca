//! One connection of a link: forwards both directions until an end, a reset or a control stops it.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::sleep;

use super::control::{Control, Direction};
use super::link::{Link, Passed, Protocol};
use super::postgres::{Conversation, Statement};
use super::view::{PIECE_BYTES_MAX, View};

/// How a direction ended.
enum Ended {
    /// The sender closed it, and all bytes were forwarded.
    Complete,
    /// The proxy must reset both sides.
    Reset,
    /// The proxy must reset the server side and keep the client side open.
    HalfOpen,
}

/// Connects a client to the link's upstream and forwards bytes until the connection ends.
pub(super) async fn connection(mut client: TcpStream, link: Arc<Link>, number: u64) {
    let upstream = {
        let mut view = View::new(&link, number, None);
        let (mut from, _to) = client.split();
        // The client of a black hole is reset when the black hole ends.
        tokio::select! {
            biased;
            () = view.swallow_black_hole(&mut from) => None,
            connected = connect(&link) => connected.ok(),
        }
    };
    let ended = match upstream {
        Some(server) => serve(&mut client, server, &link, number).await,
        None => Ended::Reset,
    };
    if let Ended::HalfOpen = ended {
        let mut view = View::new(&link, number, None);
        view.swallow_while_black_hole(&mut client.split().0).await;
    }
    if !matches!(ended, Ended::Complete) {
        // An error means that the connection is already closed.
        let _ = client.set_zero_linger();
    }
}

/// Forwards bytes between client and server, then closes or resets the server's connection.
async fn serve(client: &mut TcpStream, mut server: TcpStream, link: &Link, number: u64) -> Ended {
    let ended = forward(client, &mut server, link, number).await;
    if !matches!(ended, Ended::Complete) {
        let _ = server.set_zero_linger();
    }
    ended
}

async fn connect(link: &Link) -> io::Result<TcpStream> {
    // During a black hole this waits. The other branch of the caller's select ends the wait.
    let mut setting = link.setting.clone();
    let reaches_server = setting.wait_for(|setting| !setting.control_of(None).is_black_hole());
    reaches_server.await.map_err(io::Error::other)?;
    let upstream = *link.upstream.borrow();
    let server = TcpStream::connect(upstream).await?;
    server.set_nodelay(true)?;
    Ok(server)
}

async fn forward(
    client: &mut TcpStream,
    server: &mut TcpStream,
    link: &Link,
    number: u64,
) -> Ended {
    let _ = client.set_nodelay(true);
    let port = server.local_addr().ok().map(|address| address.port());
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let conversation = Mutex::new(Conversation::default());
    let carrier = |direction| Carrier {
        direction,
        view: View::new(link, number, port),
        conversation: &conversation,
        held: Vec::new(),
        receiver_closed: false,
    };
    let up = carrier(Direction::Up).carry(from_client, to_server);
    let down = carrier(Direction::Down).carry(from_server, to_client);
    tokio::pin!(up, down);
    // The end of one direction leaves the other open; a reset ends both.
    tokio::select! {
        ended = &mut up => match ended {
            Ended::Complete => down.await,
            other => other,
        },
        ended = &mut down => match ended {
            Ended::Complete => up.await,
            other => other,
        },
    }
}

/// One direction of a connection.
struct Carrier<'l> {
    direction: Direction,
    view: View<'l>,
    conversation: &'l Mutex<Conversation>,
    /// Bytes that are held back until a commit is confirmed.
    held: Vec<u8>,
    /// True if the receiver has closed the connection and the sender has not been informed.
    receiver_closed: bool,
}

impl Carrier<'_> {
    async fn carry(mut self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> Ended {
        let mut buffer = vec![0; PIECE_BYTES_MAX];
        loop {
            let control = self.view.update();
            let swallows = control.swallows(self.direction);
            if control == Control::HalfOpen {
                self.view.note(|_| {});
                return Ended::HalfOpen;
            }
            let continues = (swallows || !self.view.lost_bytes)
                && (control.swallows_answers_to(self.direction) || !self.receiver_closed);
            if control == Control::Refuse {
                return self.reset();
            }
            if !continues {
                // This reset is due to an earlier control, so it is not an effect of this one.
                return Ended::Reset;
            }
            let read = tokio::select! {
                biased;
                changed = self.view.setting.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return Ended::Reset,
                },
                read = from.read(&mut buffer) => read,
            };
            match read {
                Ok(0) | Err(_) if swallows => {
                    // The end or reset is hidden too. Nothing follows it, so only a new setting
                    // counts.
                    self.view.note_swallowed(0);
                    if self.view.setting.changed().await.is_err() {
                        return Ended::Reset;
                    }
                }
                Ok(0) => {
                    if self.view.wait_for_stall_end(self.direction).await.is_none() {
                        return Ended::Reset;
                    }
                    let _ = to.shutdown().await;
                    return Ended::Complete;
                }
                Ok(bytes) => {
                    if let Err(ended) = self.forward_piece(&buffer[..bytes], &mut to).await {
                        return ended;
                    }
                }
                Err(_) => return Ended::Reset,
            }
        }
    }

    /// Applies the control to a piece. Returns an error if the direction has ended.
    async fn forward_piece(&mut self, piece: &[u8], to: &mut WriteHalf<'_>) -> Result<(), Ended> {
        let Some(control) = self.view.wait_for_stall_end(self.direction).await else {
            return Err(Ended::Reset);
        };
        if control.swallows(self.direction) {
            self.view.note_swallowed(piece.len());
            return Ok(());
        }
        let committed = self.observe_statements(piece);
        let mut forwarded = piece.len();
        match control {
            Control::Late { delay_ms, jitter_ms } => {
                // The jitter depends on the number of bytes. A random one would need a seed.
                let more_ms = self.view.passed_bytes % (jitter_ms + 1);
                self.view.note(|effects| effects.late_pieces += 1);
                sleep(Duration::from_millis(delay_ms + more_ms)).await;
            }
            Control::Slow { bytes_per_ms } => {
                let delay_ms = piece.len() as u64 / u64::from(bytes_per_ms.max(1));
                self.view.note(|effects| {
                    effects.late_pieces += 1;
                    effects.late_bytes += piece.len() as u64;
                });
                sleep(Duration::from_millis(delay_ms)).await;
            }
            Control::ResetAt(direction, bytes) if direction == self.direction => {
                let left = bytes.saturating_sub(self.view.passed_bytes);
                forwarded = forwarded.min(usize::try_from(left).unwrap_or(usize::MAX));
            }
            Control::CutCommit(statement) if self.direction == Direction::Down => {
                self.held.extend_from_slice(piece);
                if committed.contains(&statement) && self.is_first_cut(statement) {
                    return Err(Ended::Reset);
                }
                if self.conversation().awaits_commit_of(statement) {
                    return Ok(());
                }
                let held = std::mem::take(&mut self.held);
                return self.write(to, &held).await;
            }
            _ => {}
        }
        let held = std::mem::take(&mut self.held);
        self.write(to, &held).await?;
        self.write(to, &piece[..forwarded]).await?;
        self.view.passed_bytes += forwarded as u64;
        if forwarded < piece.len() || self.has_reached_reset_point() {
            return Err(self.reset());
        }
        Ok(())
    }

    async fn write(&mut self, to: &mut WriteHalf<'_>, bytes: &[u8]) -> Result<(), Ended> {
        if !self.receiver_closed && to.write_all(bytes).await.is_ok() {
            return Ok(());
        }
        if !self.view.update().swallows_answers_to(self.direction) {
            return Err(Ended::Reset);
        }
        // An end of this direction would be a response, and the control drops responses.
        self.receiver_closed = true;
        let lost = bytes.len() as u64;
        self.view.note(|effects| effects.swallowed_bytes += lost);
        Ok(())
    }

    fn has_reached_reset_point(&self) -> bool {
        let control = self.view.current.control_of(self.view.port);
        matches!(control, Control::ResetAt(direction, bytes)
            if direction == self.direction && self.view.passed_bytes >= bytes)
    }

    /// Parses a piece of a Postgres link, publishes its statements and returns them.
    fn observe_statements(&mut self, piece: &[u8]) -> Vec<Statement> {
        if self.view.link.protocol != Protocol::Postgres {
            return Vec::new();
        }
        let statements = match self.direction {
            Direction::Up => self.conversation().up(piece),
            Direction::Down => self.conversation().down(piece),
        };
        for statement in &statements {
            // An error means that there is no subscriber.
            let _ = self.view.link.passed.send(match self.direction {
                Direction::Up => Passed::Sent(*statement),
                Direction::Down => Passed::Committed(*statement),
            });
        }
        statements
    }

    fn conversation(&self) -> std::sync::MutexGuard<'_, Conversation> {
        self.conversation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the cut. Returns true if no other connection of the link was cut before.
    fn is_first_cut(&self, statement: Statement) -> bool {
        let mut first = false;
        self.view.note(|effects| {
            first = effects.cut.is_none();
            if first {
                effects.cut = Some(statement);
                effects.resets += 1;
            }
        });
        first
    }

    fn reset(&self) -> Ended {
        self.view.note(|effects| effects.resets += 1);
        Ended::Reset
    }
}
