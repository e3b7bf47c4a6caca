//! Polls `/readyz` of each worker and records each change of the response.
//!
//! The polls go to the worker itself and not over the link of the clients, so that only faults of
//! the worker and of its database change the response. A worker that does not respond in time is
//! recorded, too.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::history::op::{Op, Readiness};
use crate::recorder::Recorder;
use crate::system::{WorkerSpec, status_of};

/// Time between two polls of a worker.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// Time limit of one poll.
const POLL_TIMEOUT: Duration = Duration::from_secs(2);

/// The polls of a run. Dropping them ends them.
pub(super) struct Probes(Vec<JoinHandle<()>>);

impl Probes {
    /// Polls these workers from now on.
    pub(super) fn start<'s>(
        specs: impl Iterator<Item = &'s WorkerSpec>,
        recorder: &Recorder,
    ) -> Self {
        let poll =
            |spec: &WorkerSpec| tokio::spawn(poll(spec.name.clone(), spec.bind, recorder.clone()));
        Self(specs.map(poll).collect())
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

async fn poll(worker: String, address: SocketAddr, recorder: Recorder) {
    let mut ticks = interval(POLL_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = None;
    loop {
        ticks.tick().await;
        let response = timeout(POLL_TIMEOUT, status_of(address, "/readyz")).await;
        let status = response.ok().and_then(Result::ok);
        if last != Some(status) {
            last = Some(status);
            let worker = worker.clone();
            recorder.record(Op::Readiness(Readiness { worker, status }));
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::collections::BTreeMap;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::*;

    /// Far above the time that the test needs. It only ends a test that hangs.
    const TEST_TIMEOUT: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn only_changes_of_the_response_are_recorded() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let spec = WorkerSpec {
            name: "w0".into(),
            env: BTreeMap::new(),
            bind: listener.local_addr().unwrap(),
            log: "w0.log".into(),
            hosts: None,
        };
        let dir = tempfile::tempdir().unwrap();
        let recorder = Recorder::create(&dir.path().join("history.jsonl")).unwrap();
        let is_silent = |op: &Op| matches!(op, Op::Readiness(seen) if seen.status.is_none());
        let until = Instant::now() + TEST_TIMEOUT;
        let silence = recorder.sees(until, is_silent);
        let _probes = Probes::start([&spec].into_iter(), &recorder);
        let served = async {
            for status in ["200 OK", "200 OK", "503 Service Unavailable"] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _read = stream.read(&mut [0; 1_024]).await.unwrap();
                let response = format!("HTTP/1.1 {status}\r\n\r\n");
                stream.write_all(response.as_bytes()).await.unwrap();
            }
            // The next poll is refused.
            drop(listener);
        };
        let ((), is_seen) = tokio::join!(served, silence);
        assert!(is_seen);
        let history = recorder.history().unwrap();
        let seen = history.entries().iter().map(|entry| match &entry.op {
            Op::Readiness(seen) => seen.status,
            op => panic!("{op:?}"),
        });
        assert_eq!(seen.collect::<Vec<_>>(), [Some(200), Some(503), None]);
    }
}
