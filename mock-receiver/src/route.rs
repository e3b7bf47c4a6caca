//! One request after another: the routes, the verdict on the signature, the receipt, the answer.
//!
//! A webhook request is journalled before the first byte of its answer, refused ones too. The
//! script is asked only when the signature is valid: a badly signed request is answered 401 and
//! never counts as received.

mod log;
mod receipts;

use std::net::SocketAddr;

use chrono::Utc;
use sha2::{Digest, Sha256};

use crate::behavior::{Behavior, Next, Played};
use crate::journal::{Arrival, Ending, Journal, Receipt, SignatureCheck, UncheckedReason};
use crate::peer::{Gone, Peer};
use crate::request::{self, Head, Incoming, Request};
use crate::script::{Script, Seen};
use crate::verify::{InvalidReason, Secrets, Signed, parse_timestamp};
use crate::wire;

/// What every connection of a receiver shares.
pub(crate) struct Context {
    pub(crate) address: SocketAddr,
    pub(crate) secrets: Secrets,
    pub(crate) script: Script,
    pub(crate) journal: Journal,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route<'a> {
    Webhook(Option<u64>),
    Receipts(&'a str),
    Health,
    WrongMethod,
    Unknown,
}

/// Serves the next request and says what becomes of the connection.
pub(crate) async fn serve(context: &Context, peer: &mut Peer) -> Next {
    let (request, unchecked) = match request::read(peer, &context.journal).await {
        Incoming::Nothing => return Next::Close,
        Incoming::Whole(request) => (request, None),
        Incoming::Refused(request, reason) => (request, Some(reason)),
    };
    let Some(head) = &request.head else {
        // Nobody can say where it wanted to go, so it is journalled: better one receipt too many.
        let reason = unchecked.unwrap_or(UncheckedReason::Malformed);
        let signature = SignatureCheck::Unchecked { reason };
        return webhook(context, peer, &request, &Head::default(), (None, signature)).await;
    };
    let played = match (route(head), unchecked) {
        (Route::Webhook(ordinal), unchecked) => {
            let signature = match unchecked {
                Some(reason) => SignatureCheck::Unchecked { reason },
                None => check(context, head, &request.body),
            };
            return webhook(context, peer, &request, head, (ordinal, signature)).await;
        }
        (_, Some(reason)) => refuse(peer, reason).await,
        (Route::Receipts(query), None) => receipts::list(&context.journal, peer, query).await,
        (Route::Health, None) => tell(peer, 200, "{\"status\":\"ok\"}\n").await,
        (Route::WrongMethod, None) => tell(peer, 405, "{\"error\":\"wrong method\"}\n").await,
        (Route::Unknown, None) => tell(peer, 404, "{\"error\":\"no such route\"}\n").await,
    };
    next(head, played.unwrap_or(Next::Close))
}

fn route(head: &Head) -> Route<'_> {
    let (path, query) = head.path.split_once('?').unwrap_or((&head.path, ""));
    let (wanted, route) = if path == "/webhook" {
        ("POST", Route::Webhook(None))
    } else if let Some(ordinal) = path.strip_prefix("/webhook/") {
        let digits = ordinal.bytes().all(|byte| byte.is_ascii_digit());
        match ordinal.parse().ok().filter(|_| digits) {
            Some(ordinal) => ("POST", Route::Webhook(Some(ordinal))),
            None => return Route::Unknown,
        }
    } else if path == "/receipts" {
        ("GET", Route::Receipts(query))
    } else if path == "/healthz" {
        ("GET", Route::Health)
    } else {
        return Route::Unknown;
    };
    if head.method == wanted {
        route
    } else {
        Route::WrongMethod
    }
}

fn check(context: &Context, head: &Head, body: &[u8]) -> SignatureCheck {
    if let Some(name) = head.repeated {
        let reason = InvalidReason::RepeatedHeader {
            name: name.to_owned(),
        };
        return SignatureCheck::Invalid { reason };
    }
    let signed = Signed {
        id: head.id.as_deref(),
        timestamp: head.timestamp.as_deref(),
        signature: head.signature.as_deref(),
        body,
    };
    context.secrets.check(signed, Utc::now().timestamp())
}

async fn webhook(
    context: &Context,
    peer: &mut Peer,
    request: &Request,
    head: &Head,
    (ordinal, signature): (Option<u64>, SignatureCheck),
) -> Next {
    let journal = &context.journal;
    let id = head
        .id
        .as_deref()
        .map(|id| String::from_utf8_lossy(id).into_owned());
    let (arrival, behavior) = match (&signature, &id) {
        (SignatureCheck::Valid, Some(id)) => {
            let key = ordinal.map_or_else(|| Arrival::Id(id.clone()), Arrival::Ordinal);
            let arrival = journal.count_arrival(key);
            let seen = Seen {
                ordinal,
                attempt: head.attempt,
                id: id.clone(),
                arrival,
            };
            (arrival, Some((context.script)(&seen)))
        }
        _ => (0, None),
    };
    let open = journal.begin(&signature, || Receipt {
        seq: 0,
        receiver: context.address,
        ordinal,
        path: head.path.clone(),
        webhook_id: id,
        attempt: head.attempt,
        arrival,
        webhook_timestamp: head.timestamp.as_deref().and_then(parse_timestamp),
        sha256: hex::encode(Sha256::digest(&request.body)),
        bytes: request.body.len(),
        content_type: head.content_type.clone(),
        user_agent: head.user_agent.clone(),
        signature: signature.clone(),
        behavior: behavior.clone(),
        head_us: request.head_us,
        begin_us: 0,
        end_us: None,
        ending: None,
    });
    let played = match (behavior, signature) {
        (Some(behavior), _) => behavior.play(peer).await,
        (None, SignatureCheck::Unchecked { reason }) => refused(refuse(peer, reason).await, reason),
        (None, _) => Behavior::answer(401).play(peer).await,
    };
    if let Some(receipt) = open.end(played.ending) {
        log::ended(&receipt);
    }
    next(head, played.next)
}

/// A connection is used again only when the request allows it.
fn next(head: &Head, next: Next) -> Next {
    if next == Next::Again && !head.keep_alive {
        Next::Close
    } else {
        next
    }
}

/// Answers something that is no whole request; where the next one begins is then unknown.
async fn refuse(peer: &mut Peer, reason: UncheckedReason) -> Result<Next, Gone> {
    let status = refusal_status(reason).ok_or(Gone)?;
    peer.send(&wire::whole(status, &[("connection", "close")]))
        .await?;
    Ok(Next::Close)
}

fn refused(sent: Result<Next, Gone>, reason: UncheckedReason) -> Played {
    match (sent, refusal_status(reason)) {
        (Ok(_), Some(status)) => Played::closing(Ending::Answered { status }),
        _ => Played::closing(Ending::PeerClosed),
    }
}

fn refusal_status(reason: UncheckedReason) -> Option<u16> {
    match reason {
        UncheckedReason::Malformed => Some(400),
        UncheckedReason::HeadTooLarge => Some(431),
        UncheckedReason::BodyTooLarge => Some(413),
        UncheckedReason::TooSlow => Some(408),
        UncheckedReason::BrokenOff => None,
    }
}

async fn tell(peer: &mut Peer, status: u16, body: &str) -> Result<Next, Gone> {
    peer.send(&wire::whole_with(status, &[], body.as_bytes()))
        .await?;
    Ok(Next::Again)
}
