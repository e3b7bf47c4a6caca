//! Clients of the API: they post the planned events through some worker's process, and try again.
//!
//! The definite/indefinite rule of the real tier's workload: a process that is down refused the
//! connection, so nothing was stored; a conflict is a 4xx; every other end without a 202 is `info`.

use std::sync::Arc;
use std::time::Duration;

use dispatcher::event::{EventId, NewEvent, Target};
use dispatcher::store::{Inserted, Store};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::store::SimStore;
use super::world::World;
use crate::history::op::{Acknowledged, Invoke, NotAcknowledged, Op};
use crate::history::sha256_hex;
use crate::schedule::PlannedEvent;

/// A client waits this long for an answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Wait between two posts of one event.
const POST_AGAIN: Duration = Duration::from_millis(200);
/// Posts of one event at most.
const POSTS_MAX: u32 = 8;

/// The target of an event.
pub(super) fn target(event: &PlannedEvent) -> String {
    format!(
        "http://r{}.sim:80/webhook/{}",
        event.receiver, event.ordinal
    )
}

/// Posts one planned event at its time, again where that is safe, and once more where it is planned.
pub(super) async fn post(world: Arc<World>, index: usize) {
    let plan = Arc::clone(&world.plan);
    let event = &plan.events[index];
    sleep(Duration::from_millis(event.at_ms)).await;
    let mut through = index;
    for number in 1..=POSTS_MAX {
        through += 1;
        match post_once(&world, event, number, through % world.plan.workers as usize).await {
            Posted::Accepted if event.repeated && number == 1 => continue,
            Posted::Accepted | Posted::Refused => return,
            Posted::Unreachable => {}
            // Only a key makes it safe to post again what may have been stored.
            Posted::Unknown if event.key.is_none() => return,
            Posted::Unknown => {}
        }
        sleep(POST_AGAIN).await;
    }
}

enum Posted {
    Accepted,
    Refused,
    Unreachable,
    Unknown,
}

async fn post_once(world: &Arc<World>, event: &PlannedEvent, number: u32, host: usize) -> Posted {
    let t = world.now_us();
    let (op, store) = {
        let mut core = world.core();
        let op = core.post();
        let via = core.hosts[host].name.clone();
        let invoke = Invoke {
            op,
            ordinal: event.ordinal,
            section: event.section,
            key: event.key.clone(),
            sha256: sha256_hex(event.payload.as_bytes()),
            bytes: event.payload.len(),
            target: target(event),
            via,
            cut_at: None,
        };
        core.push(t, Op::IngestInvoke(invoke));
        let host_now = &core.hosts[host];
        let life = host_now.life;
        let up = host_now.up && !host_now.killed;
        let store = SimStore {
            world: Arc::clone(world),
            host,
            life,
        };
        (op, up.then_some(store))
    };
    let ordinal = event.ordinal;
    let ended = |status: Option<u16>, why: &str| NotAcknowledged {
        op,
        ordinal,
        status,
        why: why.to_owned(),
    };
    let Some(store) = store else {
        world.record(Op::IngestFail(ended(None, "connection refused")));
        return Posted::Unreachable;
    };
    // The handler is the process's own: it goes on when the client has given up.
    let handler = tokio::spawn(handle(store, new_event(event, number)));
    match timeout(PATIENCE, handler).await {
        Ok(Ok(Some(Ok(Inserted::Accepted(id))))) => {
            let id = id.to_string();
            world.record(Op::IngestOk(Acknowledged { op, ordinal, id }));
            Posted::Accepted
        }
        Ok(Ok(Some(Ok(Inserted::Conflict(_))))) => {
            world.record(Op::IngestFail(ended(
                Some(409),
                "another event has this key",
            )));
            Posted::Refused
        }
        _ if world
            .mutant
            .is_some_and(|mutant| mutant.calls_unknown_refused()) =>
        {
            world.record(Op::IngestFail(ended(Some(422), "refused")));
            Posted::Refused
        }
        Ok(_) => {
            world.record(Op::IngestInfo(ended(None, "503, or the connection ended")));
            Posted::Unknown
        }
        Err(_) => {
            world.record(Op::IngestInfo(ended(None, "no answer in time")));
            Posted::Unknown
        }
    }
}

/// What the process does with a post; none when it died in between.
async fn handle(
    store: SimStore,
    event: NewEvent,
) -> Option<Result<Inserted, dispatcher::store::StoreError>> {
    let inserted = store.insert(event).await;
    let core = store.world.core();
    let host = &core.hosts[store.host];
    if host.life != store.life || host.killed {
        return None;
    }
    if inserted.is_ok() {
        host.accepted.notify_one();
    }
    Some(inserted)
}

fn new_event(event: &PlannedEvent, number: u32) -> NewEvent {
    // A process draws a fresh id for each post, in the order of time.
    let id = u128::from(event.at_ms) << 80 | u128::from(event.ordinal) << 8 | u128::from(number);
    NewEvent {
        id: EventId(Uuid::from_u128(id)),
        payload: event.payload.clone().into_bytes(),
        target: Target::Given(target(event)),
        idempotency_key: event.key.clone(),
    }
}
