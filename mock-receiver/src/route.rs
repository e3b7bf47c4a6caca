//! Serves one request: chooses the route, checks the signature, writes the receipt and responds.
//!
//! A webhook request is journalled before the first byte of its response, even if it is refused.
//! The script chooses a behavior only if the signature is valid. Otherwise the response is 401 and
//! the request does not count as received.

mod log;
mod receipts;

use std::net::SocketAddr;

use chrono::Utc;
use sha2::{Digest, Sha256};

use crate::behavior::Behavior;
use crate::behavior::played::{Next, Played};
use crate::check::{InvalidReason, SignatureCheck, UncheckedReason};
use crate::ending::Ending;
use crate::journal::open::OpenRequest;
use crate::journal::{Arrival, Journal, Receipt};
use crate::peer::{Gone, Peer};
use crate::request::{self, Head, Incoming, Request};
use crate::script::{Script, Seen};
use crate::verify::{Secrets, Signed, parse_timestamp};
use crate::wire;

/// State that all connections of a receiver share.
pub(crate) struct Context {
    pub(crate) address: SocketAddr,
    pub(crate) secrets: Secrets,
    pub(crate) script: Script,
    pub(crate) journal: Journal,
}

/// Route of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route<'a> {
    /// Contains the ordinal of the path.
    Webhook(Option<u64>),
    /// Contains the query.
    Receipts(&'a str),
    Health,
    WrongMethod,
    Unknown,
}

/// Serves the next request and returns the next step of the connection.
pub(crate) async fn serve(context: &Context, peer: &mut Peer) -> Next {
    let (request, unchecked) = match request::read(peer, &context.journal).await {
        Incoming::Nothing => return Next::Close,
        Incoming::Complete(request) => (request, None),
        Incoming::Refused(request, reason) => (request, Some(reason)),
    };
    let Some(head) = &request.head else {
        // The route is unknown. The request is journalled, because it may be a webhook request.
        let reason = unchecked.unwrap_or(UncheckedReason::Malformed);
        let signature = SignatureCheck::Unchecked { reason };
        let arrived =
            Webhook { request: &request, head: &Head::default(), ordinal: None, signature };
        return webhook(context, peer, arrived).await;
    };
    let sent = match (route(head), unchecked) {
        (Route::Webhook(ordinal), unchecked) => {
            let signature = match unchecked {
                Some(reason) => SignatureCheck::Unchecked { reason },
                None => check(context, head, &request.body),
            };
            let arrived = Webhook { request: &request, head, ordinal, signature };
            return webhook(context, peer, arrived).await;
        }
        (_, Some(reason)) => refuse(peer, reason).await,
        (Route::Receipts(query), None) => match receipts::page(&context.journal, query) {
            Some(page) => respond(peer, 200, &page).await,
            None => respond(peer, 400, "{\"error\":\"since is not a number\"}\n").await,
        },
        (Route::Health, None) => respond(peer, 200, "{\"status\":\"ok\"}\n").await,
        (Route::WrongMethod, None) => respond(peer, 405, "{\"error\":\"wrong method\"}\n").await,
        (Route::Unknown, None) => respond(peer, 404, "{\"error\":\"no such route\"}\n").await,
    };
    next(head, sent.unwrap_or(Next::Close))
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
    if head.method == wanted { route } else { Route::WrongMethod }
}

fn check(context: &Context, head: &Head, body: &[u8]) -> SignatureCheck {
    if let Some(name) = head.repeated {
        let reason = InvalidReason::RepeatedHeader { name: name.to_owned() };
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

/// A webhook request whose signature was checked.
struct Webhook<'a> {
    request: &'a Request,
    head: &'a Head,
    ordinal: Option<u64>,
    signature: SignatureCheck,
}

async fn webhook(context: &Context, peer: &mut Peer, webhook: Webhook<'_>) -> Next {
    let Webhook { request, head, ordinal, signature } = webhook;
    let journal = &context.journal;
    let id = head.id.as_deref().map(|id| String::from_utf8_lossy(id).into_owned());
    let (arrival, behavior) = match (&signature, &id) {
        (SignatureCheck::Valid, Some(id)) => {
            let key = ordinal.map_or_else(|| Arrival::Id(id.clone()), Arrival::Ordinal);
            let arrival = journal.count_arrival(key);
            let seen = Seen { ordinal, attempt: head.attempt, id: id.clone(), arrival };
            (arrival, Some((context.script)(&seen)))
        }
        _ => (0, None),
    };
    let open = OpenRequest::begin(journal, &signature, || Receipt {
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
        (None, SignatureCheck::Unchecked { reason }) => {
            played_refusal(refuse(peer, reason).await, reason)
        }
        (None, _) => Behavior::answer(401).play(peer).await,
    };
    if let Some(receipt) = open.end(played.ending) {
        log::request_ended(&receipt);
    }
    next(head, played.next)
}

/// Closes the connection instead of reading again if the request requires it.
fn next(head: &Head, next: Next) -> Next {
    if next == Next::Again && !head.keep_alive { Next::Close } else { next }
}

/// Responds to an incomplete or malformed request and closes the connection, because the beginning
/// of the next request is unknown.
async fn refuse(peer: &mut Peer, reason: UncheckedReason) -> Result<Next, Gone> {
    let status = refusal_status(reason).ok_or(Gone)?;
    peer.send(&wire::response(status, &[("connection", "close")])).await?;
    Ok(Next::Close)
}

fn played_refusal(sent: Result<Next, Gone>, reason: UncheckedReason) -> Played {
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

/// Sends a JSON body and keeps the connection open.
async fn respond(peer: &mut Peer, status: u16, body: &str) -> Result<Next, Gone> {
    peer.send(&wire::response_with_body(status, &[], body.as_bytes())).await?;
    Ok(Next::Again)
}
