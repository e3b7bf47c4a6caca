//! Operations on one event: reading its payload, cancel and replay. The transitions are SQL
//! functions of the migration `0006_operations`, so that a SQL client makes the same ones.

use serde::Serialize;
use sqlx::FromRow;
use uuid::Uuid;

use super::connect::PgStore;
use super::error::StoreError;
use crate::event::EventId;

/// An event after a cancel or a replay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, FromRow)]
pub struct Operated {
    /// Id of the event.
    #[sqlx(try_from = "Uuid")]
    pub id: EventId,
    /// False if the state of the event does not permit the operation. Then nothing was changed.
    #[serde(skip)]
    pub is_done: bool,
    /// `pending`, `delivered` or `dead`.
    pub status: String,
    /// Why the event is dead.
    pub reason: Option<String>,
    /// Number of replays.
    pub round: i32,
    /// The event had a lease, so a request may be on its way.
    pub in_flight: bool,
}

impl PgStore {
    /// Reads the stored bytes of a payload. Returns `None` if the event does not exist.
    ///
    /// # Errors
    /// Postgres is unreachable or does not reply in time.
    pub async fn payload(&self, id: EventId) -> Result<Option<Vec<u8>>, StoreError> {
        let payload = "select payload from webhook_events where id = $1";
        self.accept
            .run("reading a payload", async |connection| {
                sqlx::query_scalar(payload).bind(id.0).fetch_optional(connection).await
            })
            .await
    }

    /// cancel: ends a pending event, also one with a lease. Returns `None` if the event does not
    /// exist.
    ///
    /// # Errors
    /// Postgres is unreachable or does not reply in time. The event may be cancelled nevertheless.
    pub async fn cancel(&self, id: EventId) -> Result<Option<Operated>, StoreError> {
        self.accept
            .run("cancelling an event", async |connection| {
                let cancel = sqlx::query_as("select * from webhook_cancel($1)");
                cancel.bind(id.0).fetch_optional(connection).await
            })
            .await
    }

    /// replay: makes a finished event pending and due, if its round is still `round`. Returns
    /// `None` if the event does not exist.
    ///
    /// # Errors
    /// Postgres is unreachable or does not reply in time. The event may be replayed nevertheless.
    pub async fn replay(
        &self,
        id: EventId,
        round: Option<i32>,
    ) -> Result<Option<Operated>, StoreError> {
        self.accept
            .run("replaying an event", async |connection| {
                let replay = sqlx::query_as("select * from webhook_replay($1, $2)");
                replay.bind(id.0).bind(round).fetch_optional(connection).await
            })
            .await
    }
}
