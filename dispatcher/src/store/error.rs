//! What can go wrong with the store, sorted by what the caller may conclude from it.

/// A store operation that gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It never reached Postgres: certainly nothing was done.
    #[error("{operation}: the database is out of reach: {reason}")]
    Unavailable {
        /// What was attempted.
        operation: &'static str,
        /// Why it is out of reach.
        reason: String,
    },
    /// It was sent and no answer came: it may or may not have been done.
    #[error("{operation}: the outcome is unknown: {reason}")]
    Unknown {
        /// What was attempted.
        operation: &'static str,
        /// What was seen instead of an answer.
        reason: String,
    },
    /// Postgres answered with an error: certainly nothing was done.
    #[error("{operation}: Postgres refused: {reason}")]
    Refused {
        /// What was attempted.
        operation: &'static str,
        /// The five characters of its SQLSTATE.
        sqlstate: String,
        /// What it said.
        reason: String,
    },
}

impl StoreError {
    /// Sorts an error that came while a statement was under way.
    pub(super) fn while_running(operation: &'static str, error: sqlx::Error) -> Self {
        let sqlstate = match &error {
            sqlx::Error::Database(answer) => answer.code().map(|code| code.into_owned()),
            _ => None,
        };
        match sqlstate {
            // Class 57P and 08: the session is ending, which may happen between the commit and its reply.
            Some(code) if code.starts_with("57P") || code.starts_with("08") => Self::Unknown {
                operation,
                reason: error.to_string(),
            },
            Some(sqlstate) => Self::Refused {
                operation,
                sqlstate,
                reason: error.to_string(),
            },
            None => Self::Unknown {
                operation,
                reason: error.to_string(),
            },
        }
    }

    /// Whether a SQLSTATE tells of a state of the server that passes, so that trying again helps.
    pub(super) fn is_passing(sqlstate: &str) -> bool {
        // 08: the connection; 40: rolled back; 53: resources are short; 55: not in a state to; 57P: starting or stopping;
        // 25006: read-only for now.
        let passing = ["08", "40", "53", "55", "57P", "25006"];
        passing.iter().any(|class| sqlstate.starts_with(class))
    }

    /// Whether the data of the statement itself was refused, so that a smaller batch may pass.
    pub fn is_about_the_data(&self) -> bool {
        // Class 22: data exception; 23: integrity constraint; 54: program limit exceeded.
        let classes = ["22", "23", "54"];
        matches!(self, Self::Refused { sqlstate, .. } if classes.contains(&&sqlstate[..2.min(sqlstate.len())]))
    }

    /// Whether less at once may get through: it took too long, or nobody knows.
    pub fn asks_for_less(&self) -> bool {
        match self {
            Self::Unavailable { .. } => false,
            Self::Unknown { .. } => true,
            // 57014: the server's own limit of time.
            Self::Refused { sqlstate, .. } => sqlstate == "57014",
        }
    }

    /// Whether the tables are not there yet.
    pub fn is_missing_schema(&self) -> bool {
        matches!(self, Self::Refused { sqlstate, .. } if sqlstate == "42P01")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_passes_is_waited_for_and_one_that_stays_is_not() {
        let passing = [
            ("08000", "the connection"),
            ("08006", "the connection"),
            ("40001", "rolled back"),
            ("40P01", "a deadlock"),
            ("53300", "too many connections"),
            ("53100", "a full disk"),
            ("55006", "an object in use"),
            ("55P03", "a lock that is held"),
            ("57P01", "told to end"),
            ("57P03", "starting up"),
            ("25006", "read-only for now"),
        ];
        for (sqlstate, what) in passing {
            assert!(StoreError::is_passing(sqlstate), "{sqlstate}: {what}");
        }
        let staying = [
            ("22021", "the data"),
            ("23505", "a constraint"),
            ("25001", "a transaction of our own"),
            ("28P01", "the password"),
            ("42501", "the privileges"),
            ("42P01", "no table"),
            ("57014", "a statement that was cancelled"),
            ("", "no code"),
        ];
        for (sqlstate, what) in staying {
            assert!(!StoreError::is_passing(sqlstate), "{sqlstate}: {what}");
        }
    }
}
