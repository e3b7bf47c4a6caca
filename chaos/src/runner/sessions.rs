//! Counts the database sessions of the workers and records each change of the number.
//!
//! The counts come from the server, over a session of the harness that no link carries.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::PgConnection;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::history::op::{Op, Section, Sessions};
use crate::postgres::{self, APPLICATION};
use crate::recorder::Recorder;

/// Time between two counts.
const COUNT_INTERVAL: Duration = Duration::from_secs(1);
/// Time limit of one count.
const COUNT_TIMEOUT: Duration = Duration::from_secs(2);
const COUNT: &str = "
select count(*) from pg_stat_activity
where backend_type = 'client backend' and datname = current_database() and application_name <> $1";

/// The counts of a run. Dropping them ends them.
pub(super) struct Counts(Vec<JoinHandle<()>>);

impl Counts {
    /// Counts the sessions of each section from now on.
    pub(super) fn start(databases: &BTreeMap<Section, String>, recorder: &Recorder) -> Self {
        let count = |(section, url): (&Section, &String)| {
            tokio::spawn(count(*section, url.clone(), recorder.clone()))
        };
        Self(databases.iter().map(count).collect())
    }
}

impl Drop for Counts {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

async fn count(section: Section, url: String, recorder: Recorder) {
    let mut ticks = interval(COUNT_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut connection, mut last) = (None, None);
    loop {
        ticks.tick().await;
        let counted = timeout(COUNT_TIMEOUT, sessions(&url, connection.take())).await;
        let counted = counted.ok().and_then(Result::ok);
        let sessions = counted.as_ref().map(|(sessions, _)| *sessions);
        connection = counted.map(|(_, connection)| connection);
        if last != Some(sessions) {
            last = Some(sessions);
            recorder.record(Op::Sessions(Sessions { section, sessions }));
        }
    }
}

/// Returns the number of sessions, and the connection for the next count.
async fn sessions(
    url: &str,
    connection: Option<PgConnection>,
) -> Result<(u64, PgConnection), sqlx::Error> {
    let mut connection = match connection {
        Some(connection) => connection,
        None => postgres::connect(url).await?,
    };
    let count: i64 = sqlx::query_scalar(COUNT).bind(APPLICATION).fetch_one(&mut connection).await?;
    Ok((count.unsigned_abs(), connection))
}
