//! Kept connections, and the hosts whose connections are not kept.
//!
//! Bytes that a receiver sends after its response could be taken for the response to the next
//! request. So a connection is reused only after it was silent for a while, and a host has to show
//! first that its connections stay silent and open. One fault of a host ends its reuse for
//! [`REFUSAL`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

use super::wire::{Silence, Socket};

/// Time without reuse after unsolicited bytes or an unannounced close.
const REFUSAL: Duration = Duration::from_mins(10);

/// Time for which a host without kept connections is remembered as reliable.
const MEMORY: Duration = Duration::from_mins(1);

/// Maximum number of remembered hosts. Connections to other hosts are not kept.
const HOSTS_MAX: usize = 10_000;

/// Pause between two searches for expired connections.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Limits of a pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct PoolLimits {
    /// Maximum number of kept connections. At 0, no connection is kept.
    pub(super) kept_max: usize,
    pub(super) kept_per_host_max: usize,
    /// Silence that is required of a connection before its reuse. Servers that respond twice do it
    /// within 1 to 2 ms.
    pub(super) silence: Duration,
    /// The same for the first reuse of a connection to a host.
    pub(super) first_silence: Duration,
}

/// Kept connections of a process. Clones share them.
#[derive(Clone)]
pub(super) struct Pool {
    pub(super) limits: PoolLimits,
    /// One permit per connection that may be kept.
    places: Arc<Semaphore>,
    hosts: Arc<Mutex<Hosts>>,
}

/// By scheme, host and port.
type Hosts = BTreeMap<String, Host>;

struct Host {
    /// In the order of their release.
    idle: VecDeque<Idle>,
    standing: Standing,
    /// End of a refusal. For other hosts, they may be forgotten at this time.
    until: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    New,
    Reliable,
    Refused,
}

struct Idle {
    socket: Socket,
    since: Instant,
    until: Instant,
    _place: OwnedSemaphorePermit,
}

/// Permission for one attempt.
pub(super) struct Taken {
    /// A checked connection, if one is usable.
    pub(super) socket: Option<Socket>,
    /// False if the connection of the attempt must not be kept.
    pub(super) may_keep: bool,
}

impl Pool {
    /// Must be called inside a runtime.
    pub(super) fn new(limits: PoolLimits) -> Self {
        let hosts = Arc::default();
        tokio::spawn(sweep_until_dropped(Arc::downgrade(&hosts)));
        Self { limits, places: Arc::new(Semaphore::new(limits.kept_max)), hosts }
    }

    /// Takes the connection that was released last among those that were silent long enough.
    pub(super) fn take(&self, name: &str) -> Taken {
        let now = Instant::now();
        let mut taken = Taken { socket: None, may_keep: self.limits.kept_max > 0 };
        let mut hosts = self.hosts.lock();
        let Some(host) = hosts.get_mut(name) else { return taken };
        taken.may_keep &= !host.is_refused(now);
        while let Some(mut idle) = host.pop_silent(now, self.limits) {
            match idle.socket.silence() {
                Silence::Unbroken if now < idle.until => {
                    host.standing = Standing::Reliable;
                    taken.socket = Some(idle.socket);
                    break;
                }
                Silence::Unbroken | Silence::Unclear => {}
                broken => {
                    host.refuse(name, broken, now);
                    taken.may_keep = false;
                }
            }
        }
        taken
    }

    /// Keeps a connection for at most `idle_max`.
    pub(super) fn keep(&self, name: &str, socket: Socket, idle_max: Duration) {
        let now = Instant::now();
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned()
            && let Some(host) = entry(&mut self.hosts.lock(), name, now)
            && !host.is_refused(now)
            && host.idle.len() < self.limits.kept_per_host_max
        {
            if host.standing == Standing::Refused {
                host.standing = Standing::New;
            }
            host.until = now + MEMORY;
            host.idle.push_back(Idle { socket, since: now, until: now + idle_max, _place: place });
        }
    }

    /// Keeps no connection to the host for [`REFUSAL`]. A host that is not known needs no entry if
    /// too many are known: it gets no reuse anyway.
    pub(super) fn refuse(&self, name: &str, reason: Silence) {
        let now = Instant::now();
        if let Some(host) = entry(&mut self.hosts.lock(), name, now) {
            host.refuse(name, reason, now);
        }
    }
}

/// Returns `None` if too many hosts are known.
fn entry<'a>(hosts: &'a mut Hosts, name: &str, now: Instant) -> Option<&'a mut Host> {
    if hosts.len() >= HOSTS_MAX && !hosts.contains_key(name) {
        return None;
    }
    let new = || Host { idle: VecDeque::new(), standing: Standing::New, until: now + MEMORY };
    Some(hosts.entry(name.to_owned()).or_insert_with(new))
}

impl Host {
    fn is_refused(&self, now: Instant) -> bool {
        self.standing == Standing::Refused && now < self.until
    }

    fn pop_silent(&mut self, now: Instant, limits: PoolLimits) -> Option<Idle> {
        let required = match self.standing {
            Standing::Reliable => limits.silence,
            Standing::New | Standing::Refused => limits.first_silence,
        };
        let silent = self.idle.partition_point(|idle| idle.since + required <= now);
        self.idle.remove(silent.checked_sub(1)?)
    }

    fn refuse(&mut self, name: &str, reason: Silence, now: Instant) {
        if self.standing != Standing::Refused {
            let minutes = REFUSAL.as_secs() / 60;
            tracing::info!(host = name, ?reason, minutes, "connections to the host are not reused");
        }
        self.standing = Standing::Refused;
        self.until = now + REFUSAL;
        self.idle.clear();
    }
}

/// Closes expired connections and forgets hosts.
fn sweep(hosts: &mut Hosts, now: Instant) {
    hosts.retain(|name, host| {
        while let Some(mut idle) = host.idle.pop_front_if(|idle| idle.until <= now) {
            let silence = idle.socket.silence();
            if matches!(silence, Silence::Unsolicited | Silence::Closed) {
                host.refuse(name, silence, now);
            }
        }
        !host.idle.is_empty() || now < host.until
    });
}

async fn sweep_until_dropped(hosts: Weak<Mutex<Hosts>>) {
    loop {
        sleep(SWEEP_INTERVAL).await;
        let Some(hosts) = hosts.upgrade() else { return };
        sweep(&mut hosts.lock(), Instant::now());
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::{advance, pause};
    use tokio_util::either::Either;

    use super::*;

    const HOST: &str = "http://a.test";
    const MS: Duration = Duration::from_millis(1);
    const LIMITS: PoolLimits = PoolLimits {
        kept_max: 3,
        kept_per_host_max: 2,
        silence: Duration::from_millis(5),
        first_silence: Duration::from_millis(500),
    };

    async fn pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let ours = TcpStream::connect(address).await.unwrap();
        let (theirs, _) = listener.accept().await.unwrap();
        (Socket::new(Either::Left(ours), address), theirs)
    }

    fn is_kept(pool: &Pool, host: &str) -> bool {
        pool.take(host).socket.is_some()
    }

    fn kept(pool: &Pool) -> usize {
        LIMITS.kept_max - pool.places.available_permits()
    }

    // The sockets are connected before the clock is paused.
    #[tokio::test]
    async fn first_reuse_requires_a_longer_silence() {
        let (socket, _theirs) = pair().await;
        let pool = Pool::new(LIMITS);
        pause();
        pool.keep(HOST, socket, 4_000 * MS);
        advance(499 * MS).await;
        assert!(!is_kept(&pool, HOST));
        advance(MS).await;
        let socket = pool.take(HOST).socket.unwrap();
        pool.keep(HOST, socket, 4_000 * MS);
        advance(4 * MS).await;
        assert!(!is_kept(&pool, HOST));
        advance(MS).await;
        assert!(is_kept(&pool, HOST));
    }

    #[tokio::test]
    async fn unsolicited_bytes_refuse_the_host_for_ten_minutes() {
        let (broken, mut theirs) = pair().await;
        theirs.write_all(b"x").await.unwrap();
        assert_refused_after(broken).await;
    }

    #[tokio::test]
    async fn unannounced_close_refuses_the_host_for_ten_minutes() {
        let (broken, theirs) = pair().await;
        drop(theirs);
        assert_refused_after(broken).await;
    }

    async fn assert_refused_after(broken: Socket) {
        let (silent, _open) = pair().await;
        let (late, _open) = pair().await;
        let pool = Pool::new(LIMITS);
        pause();
        pool.keep(HOST, silent, REFUSAL);
        pool.keep(HOST, broken, REFUSAL);
        advance(LIMITS.first_silence).await;
        let taken = pool.take(HOST);
        assert!(taken.socket.is_none() && !taken.may_keep);
        pool.keep(HOST, late, REFUSAL);
        assert_eq!(kept(&pool), 0, "no connection to the host is kept");
        advance(REFUSAL - MS).await;
        assert!(!pool.take(HOST).may_keep);
        advance(MS).await;
        assert!(pool.take(HOST).may_keep);
    }

    #[tokio::test]
    async fn expired_connections_are_closed_and_checked() {
        let (silent, _theirs) = pair().await;
        let (closed, theirs) = pair().await;
        drop(theirs);
        let pool = Pool::new(LIMITS);
        pause();
        pool.keep(HOST, silent, 4_000 * MS);
        pool.keep("http://b.test", closed, 4_000 * MS);
        sweep(&mut pool.hosts.lock(), Instant::now() + 3_999 * MS);
        assert_eq!(kept(&pool), 2);
        sweep(&mut pool.hosts.lock(), Instant::now() + 4_000 * MS);
        assert_eq!(kept(&pool), 0);
        assert!(pool.take(HOST).may_keep);
        assert!(!pool.take("http://b.test").may_keep);
        sweep(&mut pool.hosts.lock(), Instant::now() + 4_000 * MS + REFUSAL);
        assert!(pool.hosts.lock().is_empty());
    }

    #[tokio::test]
    async fn kept_connections_and_known_hosts_are_limited() {
        let pool = Pool::new(LIMITS);
        for (host, expected) in [(HOST, 1), (HOST, 2), (HOST, 2), ("b", 3), ("c", 3)] {
            pool.keep(host, pair().await.0, 4_000 * MS);
            assert_eq!(kept(&pool), expected);
        }
        for number in 0..=HOSTS_MAX {
            pool.refuse(&number.to_string(), Silence::Closed);
        }
        assert_eq!(pool.hosts.lock().len(), HOSTS_MAX);
    }
}
