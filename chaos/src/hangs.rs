//! The hang switch: makes receivers hang, whatever their scripts say. A fault sets it, and
//! receivers read it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The hang switch of a run. Clones share their state.
#[derive(Clone, Debug, Default)]
pub struct HangSwitch {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    hanging: BTreeSet<u32>,
    hung: BTreeMap<u32, u64>,
}

impl HangSwitch {
    /// Lets every new request to this receiver hang. Receivers are counted from 0.
    pub fn begin(&self, receiver: u32) {
        self.state().hanging.insert(receiver);
    }

    /// Lets new requests follow their scripts again. Idempotent.
    pub fn end(&self, receiver: u32) {
        self.state().hanging.remove(&receiver);
    }

    /// Returns true if a new request to this receiver must hang, and counts it. Call it once per
    /// request.
    #[must_use]
    pub fn takes(&self, receiver: u32) -> bool {
        let mut state = self.state();
        let hangs = state.hanging.contains(&receiver);
        if hangs {
            *state.hung.entry(receiver).or_default() += 1;
        }
        hangs
    }

    /// The number of requests to this receiver that hung because of the switch.
    #[must_use]
    pub fn hung(&self, receiver: u32) -> u64 {
        self.state().hung.get(&receiver).copied().unwrap_or(0)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_receiver_hangs_until_the_end_and_its_requests_are_counted() {
        let hangs = HangSwitch::default();
        hangs.begin(1);
        let taken = [hangs.takes(0), hangs.takes(1), hangs.takes(1)];
        hangs.end(1);
        assert_eq!((taken, hangs.takes(1)), ([false, true, true], false));
        assert_eq!((hangs.hung(0), hangs.hung(1)), (0, 2));
    }
}
