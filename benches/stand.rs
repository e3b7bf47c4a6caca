//! Postgres, the release binary of the dispatcher as a separate process, and receivers.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use chaos::binary::dispatcher_binary;
use chaos::host::free_port;
use chaos::postgres::{DATABASE_URL_VARIABLE, Postgres, Wanted};
use chaos::system::{ProcessSystem, System, WorkerSpec};
use mock_receiver::{Journal, Receiver, Script};
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::load::Client;
use crate::processes;

/// Name of the process in the driver.
const NAME: &str = "dispatcher";
/// Maximum time of a start.
const READY_MAX: Duration = Duration::from_secs(30);
/// Interval between two queries.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// The secret of the dispatcher and of the receivers.
pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A running dispatcher.
#[derive(Debug)]
pub struct Stand {
    system: ProcessSystem,
    spec: WorkerSpec,
    postgres_pid: Option<u32>,
    /// For queries to its database.
    pub pool: PgPool,
    _directory: tempfile::TempDir,
}

/// CPU time of dispatcher and Postgres since their start.
#[derive(Clone, Copy, Debug)]
pub struct Spent {
    dispatcher: Duration,
    postgres: Duration,
}

impl Stand {
    /// Starts the dispatcher with these settings over a new database.
    ///
    /// # Errors
    /// If the binary cannot be built, or the dispatcher does not become ready.
    pub async fn start(postgres: &Postgres, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::start_as(postgres, &[], settings).await
    }

    /// Starts the dispatcher with these arguments, for example as `worker` only.
    ///
    /// # Errors
    /// The same as for [`Stand::start`].
    pub async fn start_as(
        postgres: &Postgres,
        arguments: &[&str],
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let url = postgres.create_database("bench").await?;
        let directory = tempfile::tempdir()?;
        let bind = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut env = BTreeMap::from([
            ("DATABASE_URL".to_owned(), url.clone()),
            ("WEBHOOK_SECRET".to_owned(), SECRET.to_owned()),
            ("ALLOWED_TARGET_CIDRS".to_owned(), "127.0.0.0/8".to_owned()),
        ]);
        env.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let spec = WorkerSpec {
            name: NAME.to_owned(),
            env,
            bind,
            log: directory.path().join("dispatcher.log"),
            hosts: None,
        };
        let mut stand = Self {
            system: ProcessSystem::new(dispatcher_binary()?).with_arguments(arguments),
            spec,
            postgres_pid: postgres.pid(),
            pool: PgPool::connect(&url).await?,
            _directory: directory,
        };
        stand.restart().await?;
        Ok(stand)
    }

    /// Starts the dispatcher again after a kill.
    ///
    /// # Errors
    /// If the dispatcher does not become ready.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.system.start(&self.spec).await?;
        self.system.wait_ready(NAME, READY_MAX).await?;
        Ok(())
    }

    /// Sends SIGKILL and waits for the exit.
    ///
    /// # Errors
    /// If the process does not exit.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.system.kill(NAME).await?;
        Ok(())
    }

    /// Address of the API.
    pub fn address(&self) -> SocketAddr {
        self.spec.bind
    }

    /// Process id of the dispatcher.
    ///
    /// # Panics
    /// If the dispatcher does not run.
    pub fn pid(&self) -> u32 {
        self.system.pid(NAME).expect("the dispatcher runs")
    }

    /// Path of the log.
    pub fn log(&self) -> PathBuf {
        self.spec.log.clone()
    }

    /// CPU time since the start. Zero for a Postgres that this process did not start.
    pub fn spent(&self) -> Spent {
        Spent {
            dispatcher: processes::cpu(self.pid()),
            postgres: self.postgres_pid.map_or(Duration::ZERO, processes::cpu),
        }
    }

    /// Value of a metric of the dispatcher, by its name with its labels. Zero if there is none yet.
    ///
    /// # Errors
    /// If the metrics cannot be read.
    pub async fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let text = Client::get(self.address(), "/metrics").await?;
        let mut values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(values.next().map_or(Ok(0.0), str::parse)?)
    }

    /// Waits until every event is final that is not to become due much later.
    ///
    /// # Errors
    /// If a query fails, or the wait is longer than `within`.
    pub async fn all_ended(&self, within: Duration) -> anyhow::Result<()> {
        // The partial index of pending events makes this query fast for any number of final events.
        let pending = "select exists (select from webhook_events
            where status = 'pending' and next_retry_at < now() + interval '12 h')";
        let is_pending = async || sqlx::query_scalar(pending).fetch_one(&self.pool).await;
        until_none(is_pending, within).await
    }

    /// Waits until every event is final that was posted since the time of a UUIDv7. Under a
    /// transaction that stays open, the query of [`Self::all_ended`] would read all dead entries
    /// of its index.
    ///
    /// # Errors
    /// If a query fails, or the wait is longer than `within`.
    pub async fn ended_since(&self, since: Uuid, within: Duration) -> anyhow::Result<()> {
        // The time is in the first 48 bits. Ids of one millisecond have no order.
        let first = Uuid::from_u64_pair(since.as_u64_pair().0 & !0xffff, 0);
        // Backwards, because the newest events end last. The offset keeps the scan of the ids.
        let pending = "select exists (select from (
            select status from webhook_events where id >= $1 order by id desc offset 0
        ) posted where status = 'pending')";
        let is_pending =
            async || sqlx::query_scalar(pending).bind(first).fetch_one(&self.pool).await;
        until_none(is_pending, within).await
    }
}

/// Waits until no event is pending.
async fn until_none(
    is_pending: impl AsyncFn() -> Result<bool, sqlx::Error>,
    within: Duration,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + within;
    while is_pending().await? {
        anyhow::ensure!(Instant::now() < deadline, "events are still pending");
        sleep(POLL_INTERVAL).await;
    }
    Ok(())
}

impl Spent {
    /// CPU time of dispatcher and Postgres since an earlier reading.
    pub fn since(self, earlier: Self) -> (Duration, Duration) {
        let dispatcher = self.dispatcher.saturating_sub(earlier.dispatcher);
        (dispatcher, self.postgres.saturating_sub(earlier.postgres))
    }
}

/// Finds or starts a Postgres with fsync on. Binaries of this machine are tried first, because the
/// CPU time of a server in a container is not visible.
///
/// # Errors
/// If the machine has none.
pub async fn postgres() -> anyhow::Result<Postgres> {
    let given = std::env::var_os(DATABASE_URL_VARIABLE).is_some_and(|url| !url.is_empty());
    if !given && let Ok(postgres) = Postgres::obtain(Wanted::Machine).await {
        return Ok(postgres);
    }
    Ok(Postgres::obtain(Wanted::Any).await?)
}

/// Starts `count` receivers on separate ports with one script and one journal.
///
/// # Errors
/// If no port is free.
pub async fn receivers(
    count: usize,
    script: &Script,
    journal: &Journal,
) -> anyhow::Result<Vec<Receiver>> {
    receivers_at(Ipv4Addr::LOCALHOST, count, script, journal).await
}

/// The same on another address.
///
/// # Errors
/// If no port is free.
pub async fn receivers_at(
    address: Ipv4Addr,
    count: usize,
    script: &Script,
    journal: &Journal,
) -> anyhow::Result<Vec<Receiver>> {
    let mut receivers = Vec::new();
    for _ in 0..count {
        let listener = TcpListener::bind((address, 0)).await?;
        let receiver = Receiver::start(listener, SECRET.parse()?, script.clone(), journal.clone());
        receivers.push(receiver);
    }
    Ok(receivers)
}

/// Target URL of a receiver, without an ordinal.
pub fn url(receiver: &Receiver) -> String {
    format!("http://{}/webhook", receiver.address())
}
