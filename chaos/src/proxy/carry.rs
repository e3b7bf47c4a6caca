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
    /// The accepting side is to be reset, and the other is not told.
    HalfOpen,
}

/// Carries a connection to the link's upstream.
pub(super) async fn connection(mut client: TcpStream, link: Arc<Link>, number: u64) {
    let upstream = {
        let mut life = Life::new(&link, number, None);
        let (mut from, _to) = client.split();
        // A black hole does not lead anywhere; whoever connected to it finds out by a reset.
        tokio::select! {
            biased;
            () = life.swallow_all(&mut from) => None,
            connected = connect(&link) => connected.ok(),
        }
    };
    let ended = match upstream {
        Some(server) => over(&mut client, server, &link, number).await,
        None => Ended::Reset,
    };
    if let Ended::HalfOpen = ended {
        let mut life = Life::new(&link, number, None);
        life.swallow_while_nowhere(&mut client.split().0).await;
    }
    if !matches!(ended, Ended::Whole) {
        // One that is closed already cannot be reset, which is as good.
        let _ = client.set_zero_linger();
    }
}

/// Carries it over a connection to the accepting side, which is over afterwards.
async fn over(client: &mut TcpStream, mut server: TcpStream, link: &Link, number: u64) -> Ended {
    let ended = both(client, &mut server, link, number).await;
    if !matches!(ended, Ended::Whole) {
        let _ = server.set_zero_linger();
    }
    ended
}

async fn connect(link: &Link) -> io::Result<TcpStream> {
    // While the link leads nowhere nobody connects; the other branch ends this one's wait.
    let mut setting = link.setting.clone();
    let leads = setting.wait_for(|setting| !setting.control_of(None).leads_nowhere());
    leads.await.map_err(io::Error::other)?;
    let upstream = *link.upstream.borrow();
    let server = TcpStream::connect(upstream).await?;
    server.set_nodelay(true)?;
    Ok(server)
}

async fn both(client: &mut TcpStream, server: &mut TcpStream, link: &Link, number: u64) -> Ended {
    let _ = client.set_nodelay(true);
    let port = server.local_addr().ok().map(|address| address.port());
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let talk = Mutex::new(Conversation::default());
    let direction = |way| Carrier {
        way,
        life: Life::new(link, number, port),
        talk: &talk,
        held: Vec::new(),
        gone: false,
    };
    let up = direction(Direction::Up).carry(from_client, to_server);
    let down = direction(Direction::Down).carry(from_server, to_client);
    tokio::pin!(up, down);
    // The end of one direction leaves the other open; a reset ends both.
    tokio::select! {
        ended = &mut up => match ended {
            Ended::Whole => down.await,
            torn => torn,
        },
        ended = &mut down => match ended {
            Ended::Whole => up.await,
            torn => torn,
        },
    }
}

/// A connection's view of its link's settings.
struct Life<'l> {
    link: &'l Link,
    number: u64,
    /// The port from which the accepting side sees it come, once it does.
    port: Option<u16>,
    setting: watch::Receiver<Setting>,
    current: Setting,
    /// Bytes were swallowed: what comes after them means nothing.
    torn: bool,
    /// Bytes passed under the current setting.
    passed_bytes: u64,
}

impl<'l> Life<'l> {
    fn new(link: &'l Link, number: u64, port: Option<u16>) -> Life<'l> {
        let mut setting = link.setting.clone();
        let current = *setting.borrow_and_update();
        Life {
            link,
            number,
            port,
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
        newest.control_of(self.port)
    }

    /// Takes the newest setting that does not keep back what a direction brings; nothing when the link is
    /// gone.
    async fn look_past_a_stall(&mut self, way: Direction) -> Option<Control> {
        loop {
            let control = self.look();
            if control != Control::Stall {
                return Some(control);
            }
            self.note(|effects| {
                if way == Direction::Up {
                    effects.stalled.insert(self.number);
                }
            });
            self.setting.changed().await.ok()?;
        }
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

    /// Swallows what comes while the link leads nowhere, and ends when it leads somewhere again. On a link
    /// that passes it never ends.
    async fn swallow_all(&mut self, from: &mut ReadHalf<'_>) {
        if !self.look().leads_nowhere() {
            return std::future::pending().await;
        }
        self.swallow_while_nowhere(from).await;
    }

    /// The same, and ends at once on a link that passes.
    async fn swallow_while_nowhere(&mut self, from: &mut ReadHalf<'_>) {
        if !self.look().leads_nowhere() {
            return;
        }
        let mut buffer = vec![0; PIECE_BYTES_MAX];
        let mut open = true;
        loop {
            tokio::select! {
                biased;
                changed = self.setting.changed() => if changed.is_err() || !self.look().leads_nowhere() {
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
    /// Whom it leads to is gone, and whom it comes from was not told.
    gone: bool,
}

impl Carrier<'_> {
    async fn carry(mut self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> Ended {
        let mut buffer = vec![0; PIECE_BYTES_MAX];
        loop {
            let control = self.life.look();
            let swallows = control.swallows(self.way);
            if control == Control::HalfOpen {
                self.life.note(|_| {});
                return Ended::HalfOpen;
            }
            let goes_on = (swallows || !self.life.torn)
                && (control.swallows_answers_to(self.way) || !self.gone);
            if control == Control::Refuse {
                return self.reset();
            }
            if !goes_on {
                // What an earlier control left behind is no effect of this one.
                return Ended::Reset;
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
                Ok(0) | Err(_) if swallows => {
                    // The end is swallowed as well, a reset, too; nothing more can come.
                    self.life.note_swallowed(0);
                    if self.life.setting.changed().await.is_err() {
                        return Ended::Reset;
                    }
                }
                Ok(0) => {
                    if self.life.look_past_a_stall(self.way).await.is_none() {
                        return Ended::Reset;
                    }
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
        let Some(control) = self.life.look_past_a_stall(self.way).await else {
            return Err(Ended::Reset);
        };
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
            Control::Slow { bytes_per_ms } => {
                let took_ms = piece.len() as u64 / u64::from(bytes_per_ms.max(1));
                self.life.note(|effects| effects.late_pieces += 1);
                sleep(Duration::from_millis(took_ms)).await;
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
                return self.pass(to, &held).await;
            }
            _ => {}
        }
        let held = std::mem::take(&mut self.held);
        self.pass(to, &held).await?;
        self.pass(to, &piece[..kept]).await?;
        self.life.passed_bytes += kept as u64;
        if kept < piece.len() || self.is_at_its_byte() {
            return Err(self.reset());
        }
        Ok(())
    }

    async fn pass(&mut self, to: &mut WriteHalf<'_>, bytes: &[u8]) -> Result<(), Ended> {
        if !self.gone && to.write_all(bytes).await.is_ok() {
            return Ok(());
        }
        if !self.life.look().swallows_answers_to(self.way) {
            return Err(Ended::Reset);
        }
        // That the other side is gone would be an answer.
        self.gone = true;
        let lost = bytes.len() as u64;
        self.life.note(|effects| effects.swallowed_bytes += lost);
        Ok(())
    }

    fn is_at_its_byte(&self) -> bool {
        let control = self.life.current.control_of(self.life.port);
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
