//! The receiver switch: changes the behavior of receivers, whatever their scripts say. A fault sets
//! it, and receivers read it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mock_receiver::{Behavior, Then};

/// Maximum duration of a hanging request, in milliseconds. It exceeds the deadline of each attempt.
const HANG_MS_MAX: u64 = 60_000;

/// The change of the behavior of a receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switched {
    /// Every new request hangs.
    Hang,
    /// A step that no sender expects follows each complete response after a number of milliseconds.
    Then(Then, u64),
}

/// The receiver switch of a run. Clones share their state.
#[derive(Clone, Debug, Default)]
pub struct ReceiverSwitch {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    switched: BTreeMap<u32, Switched>,
    changed: BTreeMap<u32, u64>,
}

impl ReceiverSwitch {
    /// Changes the behavior for every new request to this receiver. Receivers are counted from 0.
    pub fn begin(&self, receiver: u32, switched: Switched) {
        self.state().switched.insert(receiver, switched);
    }

    /// Lets new requests follow their scripts again. Idempotent.
    pub fn end(&self, receiver: u32) {
        self.state().switched.remove(&receiver);
    }

    /// The behavior for a new request to this receiver with this script. Counts it if the switch
    /// changes the behavior. Call it once per request.
    #[must_use]
    pub fn behavior(&self, receiver: u32, scripted: Behavior) -> Behavior {
        let mut state = self.state();
        let changed = match (state.switched.get(&receiver), &scripted) {
            (Some(Switched::Hang), _) => Behavior::Hang { hold_ms: HANG_MS_MAX },
            (
                Some(Switched::Then(then, then_ms)),
                Behavior::Answer { status, retry_after, after_ms },
            ) => Behavior::AnswerThen {
                status: *status,
                retry_after: retry_after.clone(),
                after_ms: *after_ms,
                then: *then,
                then_ms: *then_ms,
            },
            _ => return scripted,
        };
        *state.changed.entry(receiver).or_default() += 1;
        changed
    }

    /// The number of requests to this receiver whose behavior the switch has changed.
    #[must_use]
    pub fn changed(&self, receiver: u32) -> u64 {
        self.state().changed.get(&receiver).copied().unwrap_or(0)
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
        let switch = ReceiverSwitch::default();
        let kind = |receiver| switch.behavior(receiver, Behavior::answer(200)).kind();
        switch.begin(1, Switched::Hang);
        let taken = [kind(0), kind(1), kind(1)];
        switch.end(1);
        assert_eq!((taken, kind(1)), (["answer", "hang", "hang"], "answer"));
        assert_eq!((switch.changed(0), switch.changed(1)), (0, 2));
    }

    #[test]
    fn only_a_complete_response_is_followed_by_a_step() {
        let switch = ReceiverSwitch::default();
        switch.begin(0, Switched::Then(Then::Response, 2));
        let garbage = switch.behavior(0, Behavior::Garbage);
        let refused = switch.behavior(0, Behavior::answer(500));
        let expected = Behavior::AnswerThen {
            status: 500,
            retry_after: None,
            after_ms: 0,
            then: Then::Response,
            then_ms: 2,
        };
        assert_eq!((garbage, refused), (Behavior::Garbage, expected));
        assert_eq!(switch.changed(0), 1);
    }
}
