//! The whole path, running: Postgres, the dispatcher's release binary as a process of its own, and receivers here.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use chaos::host::free_port;
use chaos::postgres::{Postgres, Wanted};
use chaos::system::{ProcessSystem, System, WorkerSpec};
use mock_receiver::{Journal, Receiver, Script};
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

use crate::processes;

/// The process's name in the driver.
const NAME: &str = "dispatcher";
/// How long a start may take.
const READY: Duration = Duration::from_secs(30);
/// The pause between two looks at the database.
const LOOK: Duration = Duration::from_millis(5);
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A dispatcher that runs.
#[derive(Debug)]
pub struct Stand {
    system: ProcessSystem,
    spec: WorkerSpec,
    postgres_pid: Option<u32>,
    /// A connection for looks at its database.
    pub pool: PgPool,
    _directory: tempfile::TempDir,
}

/// What was used since a moment, by dispatcher and Postgres.
#[derive(Clone, Copy, Debug)]
pub struct Spent {
    dispatcher: Duration,
    postgres: Duration,
}

impl Stand {
    /// Starts the dispatcher with these settings over a fresh database.
    ///
    /// # Errors
    /// When it cannot be built or does not become ready.
    pub async fn start(postgres: &Postgres, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let url = postgres.create_database("bench").await?;
        let directory = tempfile::tempdir()?;
        let bind = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut env = BTreeMap::from([
            ("DATABASE_URL".to_owned(), url.clone()),
            ("WEBHOOK_SECRET".to_owned(), SECRET.to_owned()),
            ("ALLOWED_TARGET_CIDRS".to_owned(), "127.0.0.0/8".to_owned()),
        ]);
        env.extend(
            settings
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        let spec = WorkerSpec {
            name: NAME.to_owned(),
            env,
            bind,
            log: directory.path().join("dispatcher.log"),
        };
        let mut stand = Self {
            system: ProcessSystem::new(binary()?),
            spec,
            postgres_pid: postgres.pid(),
            pool: PgPool::connect(&url).await?,
            _directory: directory,
        };
        stand.start_again().await?;
        Ok(stand)
    }

    /// Starts it again after its death.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        self.system.start(&self.spec).await?;
        self.system.wait_ready(NAME, READY).await?;
        Ok(())
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// When it does not die.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.system.kill(NAME).await?;
        Ok(())
    }

    /// Where its API listens.
    pub fn address(&self) -> SocketAddr {
        self.spec.bind
    }

    /// Its process id.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pid(&self) -> u32 {
        self.system.pid(NAME).expect("the dispatcher runs")
    }

    /// Where its log is.
    pub fn log(&self) -> PathBuf {
        self.spec.log.clone()
    }

    /// CPU time used so far; nothing for a Postgres that was not started here.
    pub fn spent(&self) -> Spent {
        Spent {
            dispatcher: processes::cpu(self.pid()),
            postgres: self.postgres_pid.map_or(Duration::ZERO, processes::cpu),
        }
    }

    /// Waits until every event has ended.
    ///
    /// # Errors
    /// When the database does not answer, or it takes longer than `within`.
    pub async fn all_ended(&self, within: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + within;
        // The partial index of pending events answers this at once, however many have ended.
        let pending = "select exists (select from webhook_events where status = 'pending')";
        while sqlx::query_scalar::<_, bool>(pending)
            .fetch_one(&self.pool)
            .await?
        {
            anyhow::ensure!(Instant::now() < deadline, "events are still pending");
            sleep(LOOK).await;
        }
        Ok(())
    }
}

impl Spent {
    /// What was spent between an earlier moment and this one: dispatcher, Postgres.
    pub fn since(self, earlier: Self) -> (Duration, Duration) {
        let dispatcher = self.dispatcher.saturating_sub(earlier.dispatcher);
        (dispatcher, self.postgres.saturating_sub(earlier.postgres))
    }
}

/// The dispatcher that cargo builds in the profile of this benchmark.
fn binary() -> anyhow::Result<PathBuf> {
    chaos::binary::dispatcher_binary()
}

/// The first Postgres that can be had, fsync on.
///
/// # Errors
/// When there is none.
pub async fn postgres() -> anyhow::Result<Postgres> {
    Ok(Postgres::obtain(Wanted::Any).await?)
}

/// So many receivers on ports of their own, all with one script and one journal.
///
/// # Errors
/// When no port is free.
pub async fn receivers(
    count: usize,
    script: &Script,
    journal: &Journal,
) -> anyhow::Result<Vec<Receiver>> {
    let mut receivers = Vec::new();
    for _ in 0..count {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let receiver = Receiver::start(listener, SECRET.parse()?, script.clone(), journal.clone());
        receivers.push(receiver);
    }
    Ok(receivers)
}

/// The URL of a receiver.
pub fn url(receiver: &Receiver) -> String {
    format!("http://{}/webhook", receiver.address())
}
