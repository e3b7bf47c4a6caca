//! Kept connections, and the hosts whose connections are not kept.
//!
//! Bytes that a receiver sends after its response could be taken for the response to the next
//! request. So a connection is reused only after it was silent for a while, and a host has to show
//! first that its connections stay silent and open. One fault of a host ends its reuse for
//! [`REFUSAL`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

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
    limits: PoolLimits,
    hosts: Arc<Mutex<Hosts>>,
}

#[derive(Default)]
struct Hosts {
    /// By scheme, host and port.
    known: BTreeMap<String, Host>,
    kept: usize,
}

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
        tokio::spawn(sweep(Arc::downgrade(&hosts)));
        Self { limits, hosts }
    }

    /// Takes the connection that was released last among those that were silent long enough.
    pub(super) fn take(&self, host: &str) -> Taken {
        let mut hosts = self.hosts();
        let now = Instant::now();
        let is_refused = hosts.is_refused(host, now);
        let mut taken = Taken { socket: None, may_keep: self.limits.kept_max > 0 && !is_refused };
        while let Some(mut idle) = hosts.pop_silent(host, now, self.limits) {
            match idle.socket.silence() {
                Silence::Unbroken if now < idle.until => {
                    hosts.trust(host);
                    taken.socket = Some(idle.socket);
                    break;
                }
                Silence::Unbroken | Silence::Unclear => {}
                broken => {
                    hosts.refuse(host, broken, now);
                    taken.may_keep = false;
                }
            }
        }
        taken
    }

    /// Keeps a connection for at most `idle_max`.
    pub(super) fn keep(&self, host: &str, socket: Socket, idle_max: Duration) {
        let mut hosts = self.hosts();
        let now = Instant::now();
        if hosts.is_refused(host, now) || hosts.kept >= self.limits.kept_max {
            return;
        }
        let Some(known) = hosts.entry(host, now) else {
            return;
        };
        if known.idle.len() < self.limits.kept_per_host_max {
            if known.standing == Standing::Refused {
                known.standing = Standing::New;
            }
            known.until = now + MEMORY;
            known.idle.push_back(Idle { socket, since: now, until: now + idle_max });
            hosts.kept += 1;
        }
    }

    /// Keeps no connection to the host for [`REFUSAL`].
    pub(super) fn refuse(&self, host: &str, reason: Silence) {
        self.hosts().refuse(host, reason, Instant::now());
    }

    fn hosts(&self) -> MutexGuard<'_, Hosts> {
        self.hosts.lock().expect("no code panics while it holds this lock")
    }
}

impl Hosts {
    fn is_refused(&self, host: &str, now: Instant) -> bool {
        let known = self.known.get(host);
        known.is_some_and(|host| host.standing == Standing::Refused && now < host.until)
    }

    /// Returns `None` if too many hosts are known.
    fn entry(&mut self, host: &str, now: Instant) -> Option<&mut Host> {
        if self.known.len() >= HOSTS_MAX && !self.known.contains_key(host) {
            return None;
        }
        let new = || Host { idle: VecDeque::new(), standing: Standing::New, until: now + MEMORY };
        Some(self.known.entry(host.to_owned()).or_insert_with(new))
    }

    fn pop_silent(&mut self, host: &str, now: Instant, limits: PoolLimits) -> Option<Idle> {
        let host = self.known.get_mut(host)?;
        let required = match host.standing {
            Standing::Reliable => limits.silence,
            Standing::New | Standing::Refused => limits.first_silence,
        };
        let silent = host.idle.partition_point(|idle| idle.since + required <= now);
        let idle = host.idle.remove(silent.checked_sub(1)?)?;
        self.kept -= 1;
        Some(idle)
    }

    fn trust(&mut self, host: &str) {
        if let Some(host) = self.known.get_mut(host) {
            host.standing = Standing::Reliable;
        }
    }

    /// A host that is not known needs no entry if too many are known: it gets no reuse anyway.
    fn refuse(&mut self, host: &str, reason: Silence, now: Instant) {
        let Some(known) = self.entry(host, now) else {
            return;
        };
        let is_new = known.standing != Standing::Refused;
        known.standing = Standing::Refused;
        known.until = now + REFUSAL;
        let closed = std::mem::take(&mut known.idle).len();
        self.kept -= closed;
        if is_new {
            let minutes = REFUSAL.as_secs() / 60;
            tracing::info!(host, ?reason, minutes, "connections to the host are not reused");
        }
    }

    /// Closes expired connections and forgets hosts.
    fn sweep(&mut self, now: Instant) {
        let mut broken = Vec::new();
        for (name, host) in &mut self.known {
            let expired = |idle: &mut Idle| idle.until <= now;
            while let Some(mut idle) = host.idle.pop_front_if(expired) {
                self.kept -= 1;
                let silence = idle.socket.silence();
                if matches!(silence, Silence::Unsolicited | Silence::Closed) {
                    broken.push((name.clone(), silence));
                }
            }
        }
        for (host, silence) in broken {
            self.refuse(&host, silence, now);
        }
        self.known.retain(|_, host| !host.idle.is_empty() || now < host.until);
    }
}

/// Runs until the pool is dropped.
async fn sweep(hosts: Weak<Mutex<Hosts>>) {
    loop {
        sleep(SWEEP_INTERVAL).await;
        let Some(hosts) = hosts.upgrade() else {
            return;
        };
        let mut hosts = hosts.lock().expect("no code panics while it holds this lock");
        hosts.sweep(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::{advance, pause};

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
        (Socket::plain(ours, address), theirs)
    }

    fn is_kept(pool: &Pool, host: &str) -> bool {
        pool.take(host).socket.is_some()
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
        assert_eq!(pool.hosts().kept, 0, "no connection to the host is kept");
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
        pool.hosts().sweep(Instant::now() + 3_999 * MS);
        assert_eq!(pool.hosts().kept, 2);
        pool.hosts().sweep(Instant::now() + 4_000 * MS);
        assert_eq!(pool.hosts().kept, 0);
        assert!(pool.take(HOST).may_keep);
        assert!(!pool.take("http://b.test").may_keep);
        pool.hosts().sweep(Instant::now() + 4_000 * MS + REFUSAL);
        assert!(pool.hosts().known.is_empty());
    }

    #[tokio::test]
    async fn kept_connections_and_known_hosts_are_limited() {
        let pool = Pool::new(LIMITS);
        for (host, kept) in [(HOST, 1), (HOST, 2), (HOST, 2), ("b", 3), ("c", 3)] {
            pool.keep(host, pair().await.0, 4_000 * MS);
            assert_eq!(pool.hosts().kept, kept);
        }
        for number in 0..=HOSTS_MAX {
            pool.refuse(&number.to_string(), Silence::Closed);
        }
        assert_eq!(pool.hosts().known.len(), HOSTS_MAX);
    }
}
