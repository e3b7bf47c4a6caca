//! The clock of the dedicated server: moving and reading it.

use super::super::machine::MovableClock;
use super::{OwnServer, OwnServerError, failed};

impl OwnServer {
    /// Checks that the clock of a server can be moved here.
    ///
    /// # Errors
    /// Returns the reason if it cannot.
    pub fn clock_available() -> Result<(), String> {
        MovableClock::library().map(drop)
    }

    /// Moves the clock of the server by this number of seconds. Every process of the server sees
    /// the step immediately, and a restarted server has the same offset.
    ///
    /// # Errors
    /// If the clock of this server cannot be moved, or the offset cannot be written.
    pub fn move_clock(&mut self, seconds: i64) -> Result<(), OwnServerError> {
        if let Some(reason) = &self.no_clock {
            return Err(OwnServerError::NotHere(reason.clone()));
        }
        let operation = "moving the clock of the server";
        let clock = self.cluster().clock().ok_or("there is no clock that can be moved");
        let clock = clock.map_err(failed(operation))?;
        clock.move_by(seconds).map_err(failed(operation))
    }

    /// Reads the clock of the server, in microseconds of Unix time.
    ///
    /// # Errors
    /// If the server cannot be reached.
    pub async fn clock_us(&self) -> Result<i64, OwnServerError> {
        let operation = "reading the clock of the server";
        let mut session = self.session().await.map_err(failed(operation))?;
        let sql = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint";
        let read = sqlx::query_scalar(sql).fetch_one(&mut session).await;
        read.map_err(failed(operation))
    }
}
