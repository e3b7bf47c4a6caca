//! The path of an event: client connections, the dispatcher as a separate process, and receivers
//! that respond immediately.

use std::time::Duration;

use chaos::postgres::Postgres;
use mock_receiver::{Journal, Receiver, Script};
use uuid::Uuid;

use crate::cost::{Load, Meter};
use crate::load::{self, Client, PAYLOAD_BYTES, Posts};
use crate::stand::{self, Stand};

/// Connections over which events are posted.
pub const CLIENTS: usize = 64;
/// Receivers. The default limit is 64 attempts per host, so eight hosts can use all 512 permits.
pub const TARGETS: usize = 8;
/// Maximum time until the last event of a load is delivered.
pub const DRAIN_MAX: Duration = Duration::from_secs(120);
/// Attempts that ended as delivered.
const DELIVERED: &str = r#"webhook_attempts_total{outcome="delivered"}"#;

/// Clients, dispatcher and receivers.
#[derive(Debug)]
pub struct Path {
    /// The dispatcher.
    pub stand: Stand,
    /// The targets of the events.
    pub targets: Vec<String>,
    payload_bytes: usize,
    clients: Vec<Client>,
    _receivers: Vec<Receiver>,
}

impl Path {
    /// Starts a dispatcher with these settings, and receivers with this script.
    ///
    /// # Errors
    /// If one of them cannot be started.
    pub async fn open(
        postgres: &Postgres,
        settings: &[(&str, &str)],
        script: &Script,
    ) -> anyhow::Result<Self> {
        let stand = Stand::start(postgres, settings).await?;
        let receivers = stand::receivers(TARGETS, script, &Journal::disabled()).await?;
        let targets = receivers.iter().map(stand::url).collect();
        let (payload_bytes, clients) = (PAYLOAD_BYTES, Vec::new());
        let mut path = Self { stand, targets, payload_bytes, clients, _receivers: receivers };
        path.connect().await?;
        Ok(path)
    }

    /// Posts payloads of this size from the next connections on.
    pub fn set_payload_bytes(&mut self, payload_bytes: usize) {
        self.payload_bytes = payload_bytes;
    }

    /// Replaces the client connections. The dispatcher closes those that were idle.
    ///
    /// # Errors
    /// If a connection fails.
    pub async fn connect(&mut self) -> anyhow::Result<()> {
        self.clients.clear();
        for _ in 0..CLIENTS {
            let client = Client::connect(self.stand.address()).await?;
            self.clients.push(client.with_payload(self.payload_bytes));
        }
        Ok(())
    }

    /// Posts events and waits until all of them are delivered.
    ///
    /// # Errors
    /// If a post fails, or an event is not delivered within two minutes.
    pub async fn load(&mut self, meter: &Meter, events: u64, keyed: bool) -> anyhow::Result<Load> {
        let Self { stand, targets, clients, .. } = self;
        let (before, pid) = (stand.metric(DELIVERED).await?, stand.pid());
        let since = Uuid::now_v7();
        let work = async {
            load::post_all(clients, Posts { events, targets, keyed }).await?;
            stand.ended_since(since, DRAIN_MAX).await
        };
        let load = meter.measure(Some(pid), events, work).await?;
        let delivered = stand.metric(DELIVERED).await? - before;
        anyhow::ensure!(
            delivered >= events as f64,
            "{delivered} of {events} events were delivered: read {}",
            stand.log().display()
        );
        Ok(load)
    }
}
