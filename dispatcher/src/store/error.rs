//! Errors of the store, classified by the conclusion that the caller may draw.

use std::borrow::Cow;

/// Why an operation of the store has no result.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The statement was not sent, so nothing was changed.
    #[error("{operation}: the database is unavailable: {reason}")]
    Unavailable {
        /// The operation, as a phrase such as `settling attempts`.
        operation: &'static str,
        /// The connection error.
        reason: String,
    },
    /// The statement was sent and no reply arrived. It may have been committed.
    #[error("{operation}: the outcome is unknown: {reason}")]
    Unknown {
        /// The operation, as a phrase such as `settling attempts`.
        operation: &'static str,
        /// The error that ended the wait for the reply.
        reason: String,
    },
    /// Postgres replied with an error, so nothing was changed.
    #[error("{operation}: Postgres refused: {reason}")]
    Refused {
        /// The operation, as a phrase such as `settling attempts`.
        operation: &'static str,
        /// SQLSTATE, five characters.
        sqlstate: String,
        /// The error message of Postgres.
        reason: String,
    },
}

/// 57014: cancelled by `statement_timeout`.
const TIMED_OUT: &str = "57014";

/// 22: data exception; 23: integrity constraint; 54: program limit exceeded; P0: raised by a
/// trigger; XX001: a stored value is corrupted.
const DATA_CLASSES: [&str; 5] = ["22", "23", "54", "P0", "XX001"];

impl StoreError {
    /// Classifies an error that ended a statement.
    pub(super) fn while_running(operation: &'static str, error: sqlx::Error) -> Self {
        let sqlstate = error.as_database_error().and_then(|reply| reply.code());
        let (sqlstate, reason) = (sqlstate.map(Cow::into_owned), error.to_string());
        match sqlstate {
            // 57P and 08: the session is ending. That can happen between a commit and its reply.
            Some(code) if code.starts_with("57P") || code.starts_with("08") => {
                Self::Unknown { operation, reason }
            }
            Some(sqlstate) => Self::Refused { operation, sqlstate, reason },
            None => Self::Unknown { operation, reason },
        }
    }

    /// Returns true if the server or the role permits no further session.
    pub(super) fn is_connection_limit(error: &sqlx::Error) -> bool {
        // 53300: too many connections.
        has_sqlstate(error, &["53300"])
    }

    /// Returns true if the SQLSTATE describes a temporary state of the server, so that a retry may
    /// succeed.
    pub(super) fn is_temporary(sqlstate: &str) -> bool {
        // 08: connection; 40: rollback; 53: insufficient resources; 55: object not in the required
        // state; 57P: starting or stopping; 25006: read-only.
        let temporary = ["08", "40", "53", "55", "57P", "25006"];
        temporary.iter().any(|class| sqlstate.starts_with(class))
    }

    /// Returns true if Postgres refused the data of the statement, so that a smaller batch may
    /// succeed.
    pub fn is_about_the_data(&self) -> bool {
        matches!(self, Self::Refused { sqlstate, .. }
            if DATA_CLASSES.iter().any(|class| sqlstate.starts_with(class)))
    }

    /// [`Self::is_about_the_data`] for an error that is not classified yet.
    pub(super) fn refuses_data(error: &sqlx::Error) -> bool {
        has_sqlstate(error, &DATA_CLASSES)
    }

    /// [`Self::is_timeout`] for an error that is not classified yet.
    pub(super) fn has_timed_out(error: &sqlx::Error) -> bool {
        has_sqlstate(error, &[TIMED_OUT])
    }

    /// Returns true if the statement may have been committed, or may still be.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }

    /// Returns true if the server ended the statement because it took too long.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Refused { sqlstate, .. } if sqlstate == TIMED_OUT)
    }

    /// Returns true if the statement waited too long for a lock of another transaction.
    pub fn is_locked(&self) -> bool {
        // 55P03: cancelled by `lock_timeout`.
        matches!(self, Self::Refused { sqlstate, .. } if sqlstate == "55P03")
    }

    /// Returns true if a smaller batch may succeed: the statement timed out, or its outcome is
    /// unknown.
    pub fn suggests_smaller_batch(&self) -> bool {
        self.is_unknown() || self.is_timeout()
    }

    /// Returns true if the error concerns one statement, and the database is available.
    pub fn is_of_one_statement(&self) -> bool {
        // 40001: serialization failure; 40P01: deadlock; 57014: cancelled by a timeout.
        let codes = ["40001", "40P01", "57014"];
        matches!(self, Self::Refused { sqlstate, .. } if codes.contains(&sqlstate.as_str()))
    }

    /// Returns true if the tables do not exist yet.
    pub fn is_missing_schema(&self) -> bool {
        // 42P01: undefined table.
        matches!(self, Self::Refused { sqlstate, .. } if sqlstate == "42P01")
    }
}

/// Returns true if Postgres rolled the statement back because of a concurrent transaction.
pub(super) fn is_rolled_back(error: &sqlx::Error) -> bool {
    has_sqlstate(error, &["40001", "40P01"])
}

/// Returns true if the session cannot be used any more, and others probably neither.
pub(super) fn is_of_session(error: &sqlx::Error) -> bool {
    // 25006: read-only; 57P0: ended by the server; 0A000: the result of a cached plan has other
    // types; 26000: the prepared statement is absent.
    has_sqlstate(error, &["25006", "57P0", "0A000", "26000"])
}

/// Returns true if the SQLSTATE begins with one of `codes`.
pub(super) fn has_sqlstate(error: &sqlx::Error, codes: &[&str]) -> bool {
    let sqlstate = error.as_database_error().and_then(|reply| reply.code());
    sqlstate.is_some_and(|sqlstate| codes.iter().any(|code| sqlstate.starts_with(code)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_temporary_states_are_retried() {
        let temporary = [
            ("08000", "connection exception"),
            ("08006", "connection failure"),
            ("40001", "serialization failure"),
            ("40P01", "deadlock"),
            ("53300", "too many connections"),
            ("53100", "disk full"),
            ("55006", "object in use"),
            ("55P03", "lock not available"),
            ("57P01", "admin shutdown"),
            ("57P03", "starting up"),
            ("25006", "read-only transaction"),
        ];
        for (sqlstate, name) in temporary {
            assert!(StoreError::is_temporary(sqlstate), "{sqlstate}: {name}");
        }
        let permanent = [
            ("22021", "invalid character"),
            ("23505", "unique violation"),
            ("25001", "active transaction"),
            ("28P01", "invalid password"),
            ("42501", "insufficient privilege"),
            ("42P01", "undefined table"),
            ("57014", "query cancelled"),
            ("", "no SQLSTATE"),
        ];
        for (sqlstate, name) in permanent {
            assert!(!StoreError::is_temporary(sqlstate), "{sqlstate}: {name}");
        }
    }
}
