//! Sends an event to the host of the event before.

use std::sync::{Mutex, PoisonError};

use super::Lie;

/// The lie; it remembers one target.
#[derive(Debug, Default)]
pub struct SendsElsewhere {
    before: Mutex<Option<String>>,
}

impl SendsElsewhere {
    /// A liar that has seen no target yet.
    #[must_use]
    pub const fn new() -> SendsElsewhere {
        SendsElsewhere {
            before: Mutex::new(None),
        }
    }
}

impl Lie for SendsElsewhere {
    fn target(&self, target: &str) -> String {
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        let host = before.replace(target.to_owned());
        let moved = host.and_then(|host| {
            let (base, _) = host.rsplit_once('/')?;
            let (_, ordinal) = target.rsplit_once('/')?;
            Some(format!("{base}/{ordinal}"))
        });
        moved.unwrap_or_else(|| target.to_owned())
    }
}
