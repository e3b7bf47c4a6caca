//! Which receivers hang now, whatever their scripts say: set by a fault, asked by the receivers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The hanging receivers of a run; clones are the same ones.
#[derive(Clone, Debug, Default)]
pub struct Hangs {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    hanging: BTreeSet<u32>,
    hung: BTreeMap<u32, u64>,
}

impl Hangs {
    /// From now on every request to this receiver, from 0, hangs.
    pub fn begin(&self, receiver: u32) {
        self.state().hanging.insert(receiver);
    }

    /// New requests go by their script again. Harmless where none hangs.
    pub fn end(&self, receiver: u32) {
        self.state().hanging.remove(&receiver);
    }

    /// Asked once for each request: true when it has to hang.
    #[must_use]
    pub fn takes(&self, receiver: u32) -> bool {
        let mut state = self.state();
        let hangs = state.hanging.contains(&receiver);
        if hangs {
            *state.hung.entry(receiver).or_default() += 1;
        }
        hangs
    }

    /// How many requests to this receiver had to hang so far.
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
        let hangs = Hangs::default();
        hangs.begin(1);
        let taken = [hangs.takes(0), hangs.takes(1), hangs.takes(1)];
        hangs.end(1);
        assert_eq!((taken, hangs.takes(1)), ([false, true, true], false));
        assert_eq!((hangs.hung(0), hangs.hung(1)), (0, 2));
    }
}
