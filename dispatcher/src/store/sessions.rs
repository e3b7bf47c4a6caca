//! The database sessions of the pools of this process: opened when an operation waits for one, kept
//! while idle, and counted until the server has ended them.
//!
//! A session whose statement was given up keeps its place. A commit that waits for a lost standby
//! does not end, and each new session beside it would wait as well, up to `max_connections` (a pool
//! that frees the place immediately lets other programs find no connection). One task per pool
//! opens sessions, so an operation takes the first session that is idle or new.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use sqlx::{Connection, PgConnection};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

use super::error::StoreError;
use super::places::{Claimant, LANES, Lane, Places};
use super::pooled::{Backend, Pooled};
use super::session::{Renewal, Session};
use crate::throttle::Throttle;

/// Pause after a session could not be opened. It doubles with each further failure. A worker tries
/// to take its presence every 50 ms. If the pools of other workers were faster after an outage,
/// these workers would count it as exited.
const CONNECT_PAUSE_MIN: Duration = Duration::from_millis(20);
const CONNECT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// A session that was idle for longer is pinged before an operation uses it.
const TRUSTED_IDLE: Duration = Duration::from_millis(500);

/// A session at a server that vanished must not use up the time of the operation.
const PING_TIMEOUT: Duration = Duration::from_secs(1);

/// Timeout of the message that ends a session.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Interval at which the server is asked for a session whose statement was given up, and timeout of
/// the question.
const ASK_INTERVAL: Duration = Duration::from_secs(1);

/// Interval of the log lines about refused sessions.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The sessions of all pools. Shared by the pools of a process.
#[derive(Debug)]
pub(super) struct Sessions {
    state: Mutex<State>,
    /// One permit per idle session of each pool.
    idle: [Semaphore; LANES.len()],
    options: [Session; LANES.len()],
    pub(super) renewal: Renewal,
}

#[derive(Debug)]
struct State {
    places: Places,
    pools: [PoolState; LANES.len()],
    is_closed: bool,
    refusal_log: Throttle,
}

#[derive(Debug, Default)]
struct PoolState {
    idle: Vec<Pooled>,
    /// Number of operations that wait for a session.
    waiting: usize,
    /// True while a task opens sessions.
    is_connecting: bool,
    /// The reason why the last session could not be opened.
    refusal: Option<String>,
}

/// A session in use. Dropping it closes the session, and keeps its place until the server has
/// answered the last statement or has ended the session.
#[derive(Debug)]
pub(super) struct Lent {
    /// `None` only after `put_back`.
    session: Option<Pooled>,
    lane: Lane,
    sessions: Arc<Sessions>,
}

/// Counts an operation that waits for a session.
struct Waiting<'a>(&'a Sessions, Lane);

impl Sessions {
    /// Takes size and options of each pool, in the order of [`LANES`].
    pub(super) fn new(sizes: [usize; LANES.len()], options: [Session; LANES.len()]) -> Self {
        Self {
            state: Mutex::new(State {
                places: Places::new(sizes, Instant::now()),
                pools: LANES.map(|_| PoolState::default()),
                is_closed: false,
                refusal_log: Throttle::new(LOG_INTERVAL),
            }),
            idle: LANES.map(|_| Semaphore::new(0)),
            options,
            renewal: Renewal::default(),
        }
    }

    /// Waits for a session of the pool. Operations get sessions in the order in which they came.
    pub(super) async fn acquire(self: &Arc<Self>, lane: Lane) -> Lent {
        loop {
            let session = self.next_idle(lane).await;
            let is_trusted = session.idle_since.elapsed() <= TRUSTED_IDLE;
            let mut lent = Lent { session: Some(session), lane, sessions: Arc::clone(self) };
            if is_trusted
                || matches!(timeout(PING_TIMEOUT, lent.connection().ping()).await, Ok(Ok(())))
            {
                return lent;
            }
        }
    }

    /// Returns the reason why the pool could not open its last session.
    pub(super) fn refusal(&self, lane: Lane) -> Option<String> {
        self.state.lock().pools[lane as usize].refusal.clone()
    }

    /// Closes a session of another pool, so that `claimant` can open one. If all of them are in
    /// use, the next one that is idle is closed.
    pub(super) fn make_room(self: &Arc<Self>, claimant: Claimant) {
        let mut state = self.state.lock();
        if let Some(lane) = state.places.make_room(claimant, Instant::now())
            && let Some(session) = state.pools[lane as usize].idle.pop()
        {
            state.places.must_close(lane);
            self.forget_permit(lane);
            tokio::spawn(Arc::clone(self).end(lane, session));
        }
    }

    /// Closes the idle sessions of all pools, and each further one when it becomes idle.
    pub(super) async fn close(self: &Arc<Self>) {
        self.state.lock().is_closed = true;
        join_all(self.take_idle()).await;
    }

    /// Closes all sessions, the idle ones now and each other one when it becomes idle.
    fn renew_all(self: &Arc<Self>) {
        if self.renewal.request() {
            for ending in self.take_idle() {
                tokio::spawn(ending);
            }
        }
    }

    /// Takes all idle sessions. Each future ends one.
    fn take_idle(self: &Arc<Self>) -> Vec<impl Future<Output = ()> + Send + 'static> {
        let mut ending = Vec::new();
        let mut state = self.state.lock();
        for lane in LANES {
            for session in std::mem::take(&mut state.pools[lane as usize].idle) {
                self.forget_permit(lane);
                ending.push(Arc::clone(self).end(lane, session));
            }
        }
        ending
    }

    /// An idle session is taken without its permit. If this fails, an operation has the permit. It
    /// finds no session and waits again.
    fn forget_permit(&self, lane: Lane) {
        if let Ok(permit) = self.idle[lane as usize].try_acquire() {
            permit.forget();
        }
    }

    async fn next_idle(self: &Arc<Self>, lane: Lane) -> Pooled {
        self.state.lock().pools[lane as usize].waiting += 1;
        let _waiting = Waiting(self, lane);
        loop {
            self.connect_if_needed(lane);
            let permit = self.idle[lane as usize].acquire().await;
            permit.expect("the semaphore is never closed").forget();
            let session = self.state.lock().pools[lane as usize].idle.pop();
            if let Some(session) = session {
                return session;
            }
        }
    }

    /// Starts the task that opens sessions, unless it runs or no operation needs it.
    fn connect_if_needed(self: &Arc<Self>, lane: Lane) {
        let mut state = self.state.lock();
        if !state.pools[lane as usize].is_connecting && state.takes_place(lane) {
            state.pools[lane as usize].is_connecting = true;
            tokio::spawn(Arc::clone(self).connect(lane));
        }
    }

    /// Opens sessions, each in a place that is already taken, while operations wait for them.
    async fn connect(self: Arc<Self>, lane: Lane) {
        let mut pause = CONNECT_PAUSE_MIN;
        loop {
            match Pooled::open(&self.options[lane as usize]).await {
                Ok(session) => {
                    self.state.lock().pools[lane as usize].refusal = None;
                    self.put_back(lane, session);
                    pause = CONNECT_PAUSE_MIN;
                }
                Err(error) => {
                    self.on_refused(lane, &error);
                    sleep(pause).await;
                    pause = (pause * 2).min(CONNECT_PAUSE_MAX);
                }
            }
            let mut state = self.state.lock();
            if !state.takes_place(lane) {
                state.pools[lane as usize].is_connecting = false;
                return;
            }
        }
    }

    fn on_refused(self: &Arc<Self>, lane: Lane, error: &sqlx::Error) {
        let now = Instant::now();
        let mut state = self.state.lock();
        state.pools[lane as usize].refusal = Some(error.to_string());
        if !StoreError::is_connection_limit(error) {
            return state.places.free(lane);
        }
        state.places.refused(lane, now);
        let open = state.places.open(lane);
        if state.refusal_log.is_due(now) {
            tracing::warn!(pool = ?lane, open, %error,
                "the server permits fewer sessions than configured, statements wait for one");
        }
        drop(state);
        if open == 0 {
            self.make_room(Claimant::Pool(lane));
        }
    }

    fn put_back(self: &Arc<Self>, lane: Lane, mut session: Pooled) {
        session.idle_since = Instant::now();
        let mut state = self.state.lock();
        let is_outdated = self.renewal.is_outdated(session.opened_at);
        if state.is_closed || is_outdated || state.places.must_close(lane) {
            tokio::spawn(Arc::clone(self).end(lane, session));
            return;
        }
        state.pools[lane as usize].idle.push(session);
        drop(state);
        self.idle[lane as usize].add_permits(1);
    }

    /// Waits until the server has answered the statement that was given up, or has ended the
    /// session. Statements about health are ended by their `statement_timeout`, and the questions
    /// of this function need a new session soon if the link is broken.
    async fn outlast(self: Arc<Self>, lane: Lane, mut session: Pooled) {
        if lane != Lane::Health {
            let backend = session.backend;
            tokio::select! {
                // The ping first reads every reply that is still expected.
                _ = session.connection.ping() => {}
                () = self.stops_running(backend) => {}
            }
        }
        self.end(lane, session).await;
    }

    /// Returns when the server has no running statement of this process any more. A link that
    /// drops bytes reports neither a reply nor an end.
    async fn stops_running(self: &Arc<Self>, backend: Option<Backend>) {
        let Some(backend) = backend else {
            return std::future::pending().await;
        };
        while !matches!(timeout(ASK_INTERVAL, self.is_running(backend)).await, Ok(Ok(false))) {
            sleep(ASK_INTERVAL).await;
        }
    }

    async fn is_running(self: &Arc<Self>, backend: Backend) -> Result<bool, sqlx::Error> {
        let mut lent = self.acquire(Lane::Health).await;
        let is_running = backend.is_running(lent.connection()).await?;
        lent.put_back();
        Ok(is_running)
    }

    /// Closes the session and frees its place.
    async fn end(self: Arc<Self>, lane: Lane, session: Pooled) {
        let _closed = timeout(CLOSE_TIMEOUT, session.connection.close()).await;
        self.state.lock().places.free(lane);
        self.connect_if_needed(lane);
    }
}

impl State {
    /// Takes a place if an operation waits for a session that has to be opened.
    fn takes_place(&mut self, lane: Lane) -> bool {
        let pool = &self.pools[lane as usize];
        let is_needed = !self.is_closed && pool.waiting > pool.idle.len();
        is_needed && self.places.take(lane, Instant::now())
    }
}

impl Lent {
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        &mut self.session.as_mut().expect("the session is present until put_back").connection
    }

    /// Closes this session and all others, after an error that they probably share.
    pub(super) fn renew_all(self) {
        self.sessions.renew_all();
    }

    /// Returns the session, whose state is known, to its pool.
    pub(super) fn put_back(mut self) {
        let session = self.session.take().expect("the session is present until put_back");
        self.sessions.put_back(self.lane, session);
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // Without a runtime the process is ending, and all its sessions with it.
        if let Some(session) = self.session.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(Arc::clone(&self.sessions).outlast(self.lane, session));
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.state.lock().pools[self.1 as usize].waiting -= 1;
    }
}
