//! One connection of a link: both directions, until an end, a reset or a control says otherwise.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time::sleep;

use super::postgres::{Conversation, Statement};
use super::{Control, Direction, Link, Passed, Setting, Speech};

/// Bytes that are passed at once, at most.
const PIECE_BYTES_MAX: usize = 16 * 1024;

/// How a direction ended.
enum Ended {
    /// Its sender has said all.
    Whole,
    /// Both sides are to be reset.
    Reset,
}

/// Carries a connection to the link's upstream.
pub(super) async fn connection(mut client: TcpStream, link: Arc<Link>, number: u64) {
    let upstream = {
        let mut life = Life::new(&link, number);
        let (mut from, _to) = client.split();
        // A black hole does not lead anywhere; whoever connected to it finds out by a reset.
        tokio::select! {
            biased;
            () = life.swallow_all(&mut from) => None,
            connected = connect(&link) => connected.ok(),
        }
    };
    if let Some(mut server) = upstream {
        if let Ended::Reset = both(&mut client, &mut server, &link, number).await {
            // One that is closed already cannot be reset, which is as good.
            let _ = (client.set_zero_linger(), server.set_zero_linger());
        }
    } else {
        let _ = client.set_zero_linger();
    }
}

async fn connect(link: &Link) -> io::Result<TcpStream> {
    // While the link is a black hole nobody connects; the other branch ends this one's wait.
    let mut setting = link.setting.clone();
    let passes = setting.wait_for(|setting| setting.control != Control::BlackHole);
    passes.await.map_err(io::Error::other)?;
    let server = TcpStream::connect(link.upstream).await?;
    server.set_nodelay(true)?;
    Ok(server)
}

async fn both(client: &mut TcpStream, server: &mut TcpStream, link: &Link, number: u64) -> Ended {
    let _ = client.set_nodelay(true);
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let talk = Mutex::new(Conversation::default());
    let direction = |way| Carrier {
        way,
        life: Life::new(link, number),
        talk: &talk,
        held: Vec::new(),
    };
    let up = direction(Direction::Up).carry(from_client, to_server);
    let down = direction(Direction::Down).carry(from_server, to_client);
    tokio::pin!(up, down);
    // The end of one direction leaves the other open; a reset ends both.
    tokio::select! {
        ended = &mut up => match ended {
            Ended::Whole => down.await,
            Ended::Reset => Ended::Reset,
        },
        ended = &mut down => match ended {
            Ended::Whole => up.await,
            Ended::Reset => Ended::Reset,
        },
    }
}

/// A connection's view of its link's settings.
struct Life<'l> {
    link: &'l Link,
    number: u64,
    setting: watch::Receiver<Setting>,
    current: Setting,
    /// Bytes were swallowed: what comes after them means nothing.
    torn: bool,
    /// Bytes passed under the current setting.
    passed_bytes: u64,
}

impl<'l> Life<'l> {
    fn new(link: &'l Link, number: u64) -> Life<'l> {
        let mut setting = link.setting.clone();
        let current = *setting.borrow_and_update();
        Life {
            link,
            number,
            setting,
            current,
            torn: false,
            passed_bytes: 0,
        }
    }

    /// Takes the newest setting.
    fn look(&mut self) -> Control {
        let newest = *self.setting.borrow_and_update();
        if newest.number != self.current.number {
            self.current = newest;
            self.passed_bytes = 0;
        }
        newest.control
    }

    fn note(&self, what: impl FnOnce(&mut super::Effects)) {
        self.link.note(self.current, |effects| {
            effects.connections.insert(self.number);
            what(effects);
        });
    }

    fn note_swallowed(&mut self, bytes: usize) {
        self.torn = true;
        self.note(|effects| effects.swallowed_bytes += bytes as u64);
    }

    /// Swallows what comes while the link is a black hole, and ends when bytes were swallowed and it
    /// is none any more. On a link that passes it never ends.
    async fn swallow_all(&mut self, from: &mut ReadHalf<'_>) {
        if self.look() != Control::BlackHole {
            return std::future::pending().await;
        }
        let mut buffer = vec![0; PIECE_BYTES_MAX];
        let mut open = true;
        loop {
            tokio::select! {
                biased;
                changed = self.setting.changed() => if changed.is_err() || self.look() != Control::BlackHole {
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

/// One direction of a connection.
struct Carrier<'l> {
    way: Direction,
    life: Life<'l>,
    talk: &'l Mutex<Conversation>,
    /// What is kept back until it is clear whether a statement is committed.
    held: Vec<u8>,
}

impl Carrier<'_> {
    async fn carry(mut self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> Ended {
        let mut buffer = vec![0; PIECE_BYTES_MAX];
        loop {
            let control = self.life.look();
            let swallows = control.swallows(self.way);
            if control == Control::Refuse || (self.life.torn && !swallows) {
                return self.reset();
            }
            let read = tokio::select! {
                biased;
                changed = self.life.setting.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return Ended::Reset,
                },
                read = from.read(&mut buffer) => read,
            };
            match read {
                Ok(0) if swallows => {
                    // The end is swallowed as well; nothing more can come.
                    self.life.note_swallowed(0);
                    if self.life.setting.changed().await.is_err() {
                        return Ended::Reset;
                    }
                }
                Ok(0) => {
                    let _ = to.shutdown().await;
                    return Ended::Whole;
                }
                Ok(bytes) => {
                    if let Err(ended) = self.piece(&buffer[..bytes], &mut to).await {
                        return ended;
                    }
                }
                Err(_) => return Ended::Reset,
            }
        }
    }

    /// Does with a piece what the control says.
    async fn piece(&mut self, piece: &[u8], to: &mut WriteHalf<'_>) -> Result<(), Ended> {
        let control = self.life.look();
        if control.swallows(self.way) {
            self.life.note_swallowed(piece.len());
            return Ok(());
        }
        let committed = self.hear(piece);
        let mut kept = piece.len();
        match control {
            Control::Late {
                delay_ms,
                jitter_ms,
            } => {
                // Spread by how much has passed: chance would need a stream of the seed.
                let more_ms = self.life.passed_bytes % (jitter_ms + 1);
                self.life.note(|effects| effects.late_pieces += 1);
                sleep(Duration::from_millis(delay_ms + more_ms)).await;
            }
            Control::ResetAt(way, bytes) if way == self.way => {
                let left = bytes.saturating_sub(self.life.passed_bytes);
                kept = kept.min(usize::try_from(left).unwrap_or(usize::MAX));
            }
            Control::CutCommit(statement) if self.way == Direction::Down => {
                self.held.extend_from_slice(piece);
                if committed.contains(&statement) && self.is_first_cut(statement) {
                    return Err(Ended::Reset);
                }
                if self.talk().awaits_commit_of(statement) {
                    return Ok(());
                }
                let held = std::mem::take(&mut self.held);
                return pass(to, &held).await;
            }
            _ => {}
        }
        let held = std::mem::take(&mut self.held);
        pass(to, &held).await?;
        pass(to, &piece[..kept]).await?;
        self.life.passed_bytes += kept as u64;
        if kept < piece.len() || self.is_at_its_byte() {
            return Err(self.reset());
        }
        Ok(())
    }

    fn is_at_its_byte(&self) -> bool {
        let control = self.life.current.control;
        matches!(control, Control::ResetAt(way, bytes)
            if way == self.way && self.life.passed_bytes >= bytes)
    }

    /// Reads along on a Postgres link, and tells what passes.
    fn hear(&mut self, piece: &[u8]) -> Vec<Statement> {
        if self.life.link.speech != Speech::Postgres {
            return Vec::new();
        }
        let statements = match self.way {
            Direction::Up => self.talk().up(piece),
            Direction::Down => self.talk().down(piece),
        };
        for statement in &statements {
            // Nobody has to listen.
            let _ = self.life.link.passed.send(match self.way {
                Direction::Up => Passed::Sent(*statement),
                Direction::Down => Passed::Committed(*statement),
            });
        }
        statements
    }

    fn talk(&self) -> std::sync::MutexGuard<'_, Conversation> {
        self.talk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True for one connection of the link alone.
    fn is_first_cut(&self, statement: Statement) -> bool {
        let mut first = false;
        self.life.note(|effects| {
            first = effects.cut.is_none();
            if first {
                effects.cut = Some(statement);
                effects.resets += 1;
            }
        });
        first
    }

    fn reset(&self) -> Ended {
        self.life.note(|effects| effects.resets += 1);
        Ended::Reset
    }
}

async fn pass(to: &mut WriteHalf<'_>, bytes: &[u8]) -> Result<(), Ended> {
    to.write_all(bytes).await.map_err(|_| Ended::Reset)
}
