//! Clients of the API: they post the planned events to a process and repeat failed posts.
//!
//! The result of a post follows the rule of the real tier. A refused connection and a 4xx are
//! definite failures. Every other end without a 202 is `info`: the event may be stored.

use std::sync::Arc;
use std::time::Duration;

use dispatcher::accept::Acceptor;
use dispatcher::event::{EventId, NewEvent, Target};
use dispatcher::store::{Inserted, StoreError};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::context::SimContext;
use crate::history::op::{Acknowledged, Invoke, NotAcknowledged, Op};
use crate::history::sha256_hex;
use crate::plan::PlannedEvent;

/// Maximum wait of a client for a response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(3);
/// Wait between two posts of one event.
const POST_INTERVAL: Duration = Duration::from_millis(200);
/// Maximum number of posts of one event.
const POSTS_MAX: u32 = 8;

/// Returns the target URL of an event. Its last segment is the ordinal.
pub(super) fn target(event: &PlannedEvent) -> String {
    format!("http://r{}.sim:80/webhook/{}", event.receiver, event.ordinal)
}

/// Posts one planned event at its time. Repeats the post if that is safe or planned.
pub(super) async fn post(context: Arc<SimContext>, index: usize) {
    let schedule = Arc::clone(&context.schedule);
    let event = &schedule.events[index];
    sleep(Duration::from_millis(event.at_ms)).await;
    let workers = schedule.workers as usize;
    let mut process = index;
    for number in 1..=POSTS_MAX {
        process += 1;
        match post_once(&context, event, number, process % workers).await {
            Posted::Accepted if event.repeated && number == 1 => continue,
            Posted::Accepted | Posted::Refused => return,
            Posted::Unreachable => {}
            // The event may be stored. Without a key, another post would store it again.
            Posted::Unknown if event.key.is_none() => return,
            Posted::Unknown => {}
        }
        sleep(POST_INTERVAL).await;
    }
}

enum Posted {
    Accepted,
    Refused,
    Unreachable,
    Unknown,
}

async fn post_once(
    context: &Arc<SimContext>,
    event: &PlannedEvent,
    number: u32,
    process: usize,
) -> Posted {
    let t = context.now_us();
    let (op, process) = {
        let mut state = context.state();
        let op = state.next_post();
        let via = state.processes[process].name.clone();
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
        state.push(t, Op::IngestInvoke(invoke));
        let now = &state.processes[process];
        let is_listening = now.is_up && !now.is_killed;
        let acceptor = now.acceptor.clone().filter(|_| is_listening);
        (op, acceptor.map(|acceptor| Process { number: process, life: now.life, acceptor }))
    };
    let ordinal = event.ordinal;
    let ended = |status: Option<u16>, why: &str| NotAcknowledged {
        op,
        ordinal,
        status,
        why: why.to_owned(),
    };
    let Some(process) = process else {
        context.record(Op::IngestFail(ended(None, "connection refused")));
        return Posted::Unreachable;
    };
    // The handler runs in the process. It continues if the client stops waiting.
    let handler = tokio::spawn(handle(Arc::clone(context), process, new_event(event, number)));
    match timeout(RESPONSE_TIMEOUT, handler).await {
        Ok(Ok(Some(Ok(Inserted::Accepted(id))))) => {
            let id = id.to_string();
            context.record(Op::IngestOk(Acknowledged { op, ordinal, id }));
            Posted::Accepted
        }
        Ok(Ok(Some(Ok(Inserted::Conflict(_))))) => {
            context.record(Op::IngestFail(ended(Some(409), "another event has this key")));
            Posted::Refused
        }
        _ if context.mutant.is_some_and(|mutant| mutant.refuses_unknown()) => {
            context.record(Op::IngestFail(ended(Some(422), "refused")));
            Posted::Refused
        }
        Ok(_) => {
            context.record(Op::IngestInfo(ended(None, "503, or the connection ended")));
            Posted::Unknown
        }
        Err(_) => {
            context.record(Op::IngestInfo(ended(None, "no answer in time")));
            Posted::Unknown
        }
    }
}

/// The API of one life of a process.
struct Process {
    number: usize,
    life: u32,
    acceptor: Acceptor,
}

/// Handles a post in the process. Returns none if the process was killed meanwhile.
async fn handle(
    context: Arc<SimContext>,
    process: Process,
    event: NewEvent,
) -> Option<Result<Inserted, StoreError>> {
    let inserted = process.acceptor.store(event, None).await;
    let state = context.state();
    let now = &state.processes[process.number];
    (now.life == process.life && !now.is_killed).then_some(inserted)
}

fn new_event(event: &PlannedEvent, number: u32) -> NewEvent {
    // Like a real process, each post uses a new id, in the order of time.
    let id = u128::from(event.at_ms) << 80 | u128::from(event.ordinal) << 8 | u128::from(number);
    NewEvent {
        id: EventId(Uuid::from_u128(id)),
        payload: event.payload.clone().into_bytes(),
        target: Target::Given(target(event)),
        idempotency_key: event.key.clone(),
    }
}
