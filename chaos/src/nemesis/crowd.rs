//! A crowd of clients without a key that takes connections of the API, with slow heads and bodies.
//!
//! Endangers: health and posts of clients with a key, if the clients that came first keep the
//! connections or the places. Some of the crowd send nothing, some send a head byte by byte, and
//! some send a body without a key or with a wrong one. Each comes again when the dispatcher has
//! closed its connection. The crowd stays until the health requests and the posts of the harness
//! have ended, so that a dispatcher that does not answer them cannot outlast it. The effect is the
//! number of connections that the crowd held, or that were closed to make room.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::{join_all, pending};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until};

use super::client_event::{HARM, event, first_ordinal, key};
use super::strike::{Draw, Observed, Start, Strike};
use super::world::World;
use crate::fault::{Family, Kind, Needs, Target};
use crate::plan::{Condition, PlannedEvent, PlannedFault};
use crate::system::{System, SystemError};
use crate::workload::{Manner, Posted};

/// Connections that a worker admits for health and metrics, beyond `MAX_API_CONNECTIONS`.
const FOR_HEALTH: u32 = 16;
/// Members of the crowd of each worker that get a response before their body, and leave.
const REFUSED: u32 = 4;
/// Members of the crowd of each worker for which no connection is left. If a worker stands still,
/// only these and the refused ones come meanwhile. They are fewer than the connections that clients
/// without a key may hold, so that none of them makes a new client of the harness leave.
const EXCESS: u32 = 4;
/// Posts of clients with a key.
const POSTS: u32 = 8;
/// Shortest duration, in milliseconds.
const FOR_MS_MIN: u64 = 2_000;
/// Longest duration, in milliseconds.
const FOR_MS_MAX: u64 = 3_000;
/// Time between two members of the crowd of one worker. If many came together, a new connection of
/// a client with a key could be the one that has been idle longest.
const ARRIVAL: Duration = Duration::from_millis(5);
/// Time after which a member comes again.
const AGAIN: Duration = Duration::from_secs(1);
/// Pause after each byte.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a client with a key waits for its response, in milliseconds.
const PATIENCE_MS: u64 = 10_000;
/// A head with a body that is never complete.
const WITHOUT_KEY: &str = "POST /events HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
    content-length: 1000000\r\n\r\n";
const WITH_WRONG_KEY: &str = "POST /events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer wrong\r\n\
    content-type: application/json\r\ncontent-length: 1000000\r\n\r\n";
/// The health requests of each round.
const HEALTH: [&str; 2] = ["/livez", "/readyz"];

/// A crowd of clients without a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crowd {
    /// Ordinal of the first event that a client with a key posts. The others follow.
    pub ordinal: u64,
    /// The receiver that is the target of these events, from 0.
    pub receiver: u32,
    /// Number of members that keep a connection to each worker.
    pub holding: u32,
    /// Shortest duration after all have come, in milliseconds.
    pub for_ms: u64,
}

impl Strike for Crowd {
    const KIND: Kind = Kind {
        name: "client.crowd",
        family: Family::Client,
        about: "clients without a key take all connections of the API, with slow heads and bodies",
        needs: Needs::NOTHING,
        harm: HARM,
    };

    fn draw(draw: &Draw<'_>) -> Vec<PlannedFault<Self>> {
        let mut numbers = 0..;
        let places = draw.profile.settings.max_api_connections.unwrap_or(0);
        draw.spread(|draws| {
            let number = numbers.next().expect("the range has no end");
            let crowd = Self {
                ordinal: first_ordinal(draw.kinds, &Self::KIND, number),
                receiver: draws.random_range(0..draw.profile.receivers),
                holding: places + FOR_HEALTH + EXCESS,
                for_ms: draws.random_range(FOR_MS_MIN..=FOR_MS_MAX),
            };
            (Condition::Time, crowd)
        })
    }

    fn target(&self) -> Target {
        Target::Strangers
    }

    fn events(&self) -> u64 {
        u64::from(POSTS)
    }

    async fn strike<S: System>(
        &self,
        world: &mut World<'_, S>,
        _: &Start,
    ) -> Result<Observed, SystemError> {
        if world.settings.max_api_connections.is_none() {
            let why = "MAX_API_CONNECTIONS is not set, so that no crowd can take all connections";
            return Err(SystemError::Unavailable { driver: "client", why: why.to_owned() });
        }
        let counts = Counts::default();
        let workers = u32::try_from(world.workers.len()).unwrap_or(u32::MAX);
        let members = REFUSED + self.holding;
        let of_worker = |address| (0..members).map(move |number| (address, number));
        let crowd = world.workers.iter().flat_map(|worker| of_worker(worker.bind));
        let crowd = join_all(crowd.map(|(address, number)| member(address, number, &counts)));
        let clients = async {
            sleep(ARRIVAL * members).await;
            (world.recorder.now_us(), self.clients(world).await)
        };
        let (effective_us, posted) = tokio::select! {
            biased;
            ended = clients => ended,
            _ = crowd => unreachable!("no member of the crowd leaves for good"),
        };
        for (event, _) in posted.iter().filter(|(_, posted)| *posted != Posted::Accepted) {
            world.workload.post_until_answered(event).await;
        }
        let seen = counts.seen(self.holding * workers);
        Ok(Observed::seen(effective_us, seen))
    }

    async fn heal<S: System>(&self, _: &mut World<'_, S>) -> Result<(), SystemError> {
        // The crowd has left at the end of the strike.
        Ok(())
    }
}

impl Crowd {
    /// Posts events and requests health over separate connections until the time is over, or until
    /// a post gets no response.
    async fn clients<S: System>(&self, world: &World<'_, S>) -> Vec<(PlannedEvent, Posted)> {
        let begin = Instant::now();
        let manner = Manner { pause_ms: 0, stop: None, patience_ms: PATIENCE_MS };
        let mut all = Vec::new();
        for number in 1..=POSTS {
            let ordinal = self.ordinal + u64::from(number - 1);
            let event = event(ordinal, self.receiver, Some(key(ordinal)));
            let healthy = world.workers.iter().flat_map(|worker| {
                HEALTH.map(|path| world.workload.health(&worker.name, worker.bind, path))
            });
            let (posted, _) =
                tokio::join!(world.workload.upload(&event, manner), join_all(healthy));
            all.push((event, posted));
            if posted == Posted::Unknown {
                break;
            }
            sleep_until(begin + Duration::from_millis(self.for_ms) * number / POSTS).await;
        }
        all
    }
}

/// The connections of a crowd.
#[derive(Default)]
struct Counts {
    open: AtomicU32,
    closed: AtomicU32,
    answered: AtomicU32,
}

impl Counts {
    /// Describes the crowd. Returns nothing if it did not fill this number of connections.
    fn seen(&self, full: u32) -> Option<String> {
        let count = |number: &AtomicU32| number.load(Ordering::Relaxed);
        let (open, closed) = (count(&self.open), count(&self.closed));
        let answered = count(&self.answered);
        let seen = format!(
            "{open} connections without a key were held, {closed} were closed to make room, \
             {answered} got a response before their body"
        );
        (open + closed >= full).then_some(seen)
    }
}

/// Comes in its turn, and comes again when its connection has ended.
async fn member(api: SocketAddr, number: u32, counts: &Counts) {
    let (at_once, slowly) = bytes(number);
    sleep(ARRIVAL * number).await;
    loop {
        if let Ok(stream) = TcpStream::connect(api).await {
            counts.open.fetch_add(1, Ordering::Relaxed);
            let is_answered = stay(stream, at_once, slowly).await;
            counts.open.fetch_sub(1, Ordering::Relaxed);
            let ended = if is_answered { &counts.answered } else { &counts.closed };
            ended.fetch_add(1, Ordering::Relaxed);
        }
        sleep(AGAIN).await;
    }
}

/// The bytes that a member sends in one piece, and those that it sends slowly.
const fn bytes(number: u32) -> (&'static str, &'static str) {
    match number {
        0..REFUSED if number.is_multiple_of(2) => (WITHOUT_KEY, "{{{{{{{{"),
        0..REFUSED => (WITH_WRONG_KEY, "{{{{{{{{"),
        _ if number.is_multiple_of(2) => ("", WITHOUT_KEY),
        _ => ("", ""),
    }
}

/// Sends these bytes, waits until the API ends the connection, and returns true if a response came.
async fn stay(mut stream: TcpStream, at_once: &str, slowly: &str) -> bool {
    let (mut from_api, mut to_api) = stream.split();
    let sends = async {
        let mut sent = to_api.write_all(at_once.as_bytes()).await;
        for byte in slowly.bytes() {
            sleep(PAUSE).await;
            sent = sent.and(to_api.write_all(&[byte]).await);
        }
        // An error is the end of the connection, which the reader sees.
        pending::<()>().await;
    };
    let mut first = [0];
    tokio::select! {
        read = from_api.read(&mut first) => matches!(read, Ok(1..)),
        () = sends => false,
    }
}
