//! Hand-off: an event that is stored with a lease of the worker of this process, and goes to it in
//! memory. It needs no claim.
//!
//! The worker says what it can take ([`Room`]). The batches of the API reserve permits within it
//! before they store events, so that both together never hold more than `MAX_IN_FLIGHT`. A
//! reservation travels with its event until the worker has received it.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use rand::Rng;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::event::{Claim, LeaseHolder, LeaseToken};
use crate::host::HostKey;

/// Events of a host that has refused one are not handed over for this time.
const REFUSED_FOR: Duration = Duration::from_secs(1);

/// Smallest number of such hosts at which those whose time is over are forgotten.
const REFUSED_HOSTS: usize = 1_024;

/// The way of fresh events from the API to the worker of one process.
#[derive(Debug)]
pub struct HandOff {
    /// The worker runs its scheduler under this lock. If that panics, `Reserved` is still dropped,
    /// because this mutex is not poisoned.
    state: Mutex<State>,
    batches: mpsc::UnboundedSender<HandedOver>,
}

#[derive(Debug, Default)]
struct State {
    room: Room,
    is_present: Option<IsPresent>,
    /// Tokens of the events on their way. Each holds a permit.
    reserved: HashSet<LeaseToken>,
    /// Hosts that have refused an event, until a time.
    refusing: HashMap<HostKey, Instant>,
    /// Number of those hosts at which the ones whose time is over are forgotten.
    cleanup_at: usize,
}

/// What the worker can take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// The worker and its lease time. `None` while it takes no event.
    pub holder: Option<LeaseHolder>,
    /// Permits for events that are handed over, with those on their way.
    pub permits: usize,
}

/// Returns true while the presence of the worker is held.
struct IsPresent(Box<dyn Fn() -> bool + Send + Sync>);

impl fmt::Debug for IsPresent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("IsPresent").field(&(self.0)()).finish()
    }
}

/// A permit for one event, and the token of its lease. Dropping it returns the permit.
#[derive(Debug)]
pub struct Reserved {
    /// The token of the lease.
    pub token: LeaseToken,
    hand_off: Arc<HandOff>,
}

/// The events of one batch for the worker. Without events, it only says that permits are free
/// again.
#[derive(Debug)]
pub struct HandedOver {
    /// The stored events.
    pub claims: Vec<HandedClaim>,
    /// Reservations of a batch whose outcome is unknown. Their leases may exist.
    pub lost: Vec<Reserved>,
    /// `now()` of the transaction that stored the events, by the clock of the database. For a lost
    /// batch, that of the last batch stored before it, or `None` if there was none.
    pub claimed_at: Option<DateTime<Utc>>,
    /// Time before the batch asked for a connection. The leases end no earlier than one lease time
    /// after it.
    pub sent_at: Instant,
    /// Time of the reply.
    pub received_at: Instant,
}

/// An event that is stored and leased.
#[derive(Debug)]
pub struct HandedClaim {
    /// The claim as the worker would have got it from the store.
    pub claim: Claim,
    /// Host of the target.
    pub host: HostKey,
    /// Its permit.
    pub reserved: Reserved,
}

impl HandOff {
    /// Returns the hand-off, which is closed, and its end for the worker.
    pub fn new() -> (Arc<Self>, mpsc::UnboundedReceiver<HandedOver>) {
        let (batches, receiver) = mpsc::unbounded_channel();
        (Arc::new(Self { state: Mutex::default(), batches }), receiver)
    }

    /// Sets the check of the presence. Without it, nothing is handed over.
    pub fn set_presence(&self, is_present: impl Fn() -> bool + Send + Sync + 'static) {
        self.state.lock().is_present = Some(IsPresent(Box::new(is_present)));
    }

    /// Sets what the worker can take. `room` gets the number of events on their way, and none is
    /// reserved while it runs.
    pub fn share(&self, room: impl FnOnce(usize) -> Room) {
        let mut state = self.state.lock();
        state.room = room(state.reserved.len());
    }

    /// From now on, no event is reserved. Those on their way still arrive.
    pub fn close(&self) {
        self.state.lock().room.holder = None;
    }

    /// Returns the number of events on their way.
    pub fn reserved(&self) -> usize {
        self.state.lock().reserved.len()
    }

    /// Returns true if an event with this token is on its way.
    pub fn is_reserved(&self, token: LeaseToken) -> bool {
        self.state.lock().reserved.contains(&token)
    }

    /// The worker had no room for an event of this host.
    pub fn host_refused(&self, host: &HostKey, now: Instant) {
        let mut state = self.state.lock();
        if state.refusing.len() >= state.cleanup_at.max(REFUSED_HOSTS) {
            state.refusing.retain(|_, until| *until > now);
            state.cleanup_at = 2 * state.refusing.len();
        }
        state.refusing.insert(HostKey::clone(host), now + REFUSED_FOR);
    }

    /// Reserves permits for events, each given by its host and the empty place of its reservation.
    /// Returns `None` if the worker takes none now.
    pub fn reserve<'a>(
        self: &Arc<Self>,
        events: impl IntoIterator<Item = (&'a HostKey, &'a mut Option<Reserved>)>,
        now: Instant,
        rng: &mut impl Rng,
    ) -> Option<LeaseHolder> {
        let mut state = self.state.lock();
        let State { room, is_present, reserved, refusing, .. } = &mut *state;
        let is_present = || is_present.as_ref().is_some_and(|is_present| (is_present.0)());
        let holder = room.holder.filter(|_| is_present())?;
        let free = room.permits.saturating_sub(reserved.len());
        let takes = |host: &HostKey| refusing.get(host).is_none_or(|until| now >= *until);
        for (_, place) in events.into_iter().filter(|(host, _)| takes(host)).take(free) {
            let token = LeaseToken::random(rng);
            reserved.insert(token);
            *place = Some(Reserved { token, hand_off: Arc::clone(self) });
        }
        Some(holder)
    }

    /// Gives a batch to the worker. If the worker has ended without a drain, other workers reclaim
    /// the leases.
    pub fn hand_over(&self, batch: HandedOver) {
        // The error contains the batch. Dropping it returns the permits.
        drop(self.batches.send(batch));
    }
}

impl Reserved {
    /// The worker has received the event: its permit now counts as held.
    pub fn received(self) {
        let permits = &mut self.hand_off.state.lock().room.permits;
        *permits = permits.saturating_sub(1);
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.hand_off.state.lock().reserved.remove(&self.token);
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::event::WorkerId;

    const HOLDER: LeaseHolder = LeaseHolder { worker: WorkerId(1), lease: Duration::from_secs(30) };
    const ROOM: Room = Room { holder: Some(HOLDER), permits: 10 };

    /// A hand-off with this room, whose presence is held.
    fn open(room: Room) -> Arc<HandOff> {
        let (hand_off, _) = HandOff::new();
        hand_off.set_presence(|| true);
        hand_off.share(|_| room);
        hand_off
    }

    fn reserve(hand_off: &Arc<HandOff>, hosts: &[&str], now: Instant) -> Vec<Option<Reserved>> {
        let hosts: Vec<HostKey> = hosts.iter().map(|host| HostKey::from(*host)).collect();
        let mut rng = StdRng::seed_from_u64(hand_off.reserved() as u64);
        let mut reserved: Vec<_> = hosts.iter().map(|_| None).collect();
        hand_off.reserve(hosts.iter().zip(&mut reserved), now, &mut rng);
        reserved
    }

    fn count(reserved: &[Option<Reserved>]) -> usize {
        reserved.iter().flatten().count()
    }

    #[test]
    fn nothing_is_reserved_while_closed_or_without_presence() {
        let now = Instant::now();
        let (hand_off, _) = HandOff::new();
        hand_off.share(|_| ROOM);
        assert_eq!(count(&reserve(&hand_off, &["a"], now)), 0, "no presence is known");
        hand_off.set_presence(|| false);
        assert_eq!(count(&reserve(&hand_off, &["a"], now)), 0);
        hand_off.set_presence(|| true);
        assert_eq!(count(&reserve(&hand_off, &["a"], now)), 1);
        hand_off.close();
        assert_eq!(count(&reserve(&hand_off, &["a"], now)), 0);
    }

    #[test]
    fn reserved_permits_return_or_become_those_of_the_worker() {
        let now = Instant::now();
        let hand_off = open(Room { permits: 3, ..ROOM });
        let first = reserve(&hand_off, &["a"; 2], now);
        let second = reserve(&hand_off, &["a"; 2], now);
        assert_eq!((count(&first), count(&second), hand_off.reserved()), (2, 1, 3));
        drop(first);
        assert_eq!(hand_off.reserved(), 1, "dropped reservations return their permits");
        let third = reserve(&hand_off, &["a"; 9], now);
        assert_eq!(count(&third), 2);
        // Received events hold their permits until the worker says otherwise.
        for reserved in second.into_iter().chain(third).flatten() {
            reserved.received();
        }
        assert_eq!(hand_off.reserved(), 0);
        assert_eq!(count(&reserve(&hand_off, &["a"], now)), 0);
    }

    #[test]
    fn host_that_refused_an_event_gets_none_for_a_second() {
        let now = Instant::now();
        let hand_off = open(ROOM);
        hand_off.host_refused(&HostKey::from("a"), now);
        let reserved = reserve(&hand_off, &["a", "b"], now);
        assert_eq!(reserved.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true]);
        assert_eq!(count(&reserve(&hand_off, &["a"], now + REFUSED_FOR)), 1);
    }
}
