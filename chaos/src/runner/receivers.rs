//! The receivers of a run. Each listens on a separate port and records its requests.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use mock_receiver::{
    Behavior, Ending, Journal, Moment, Receipt, Receiver, Script, Secrets, Seen, SignatureCheck,
};
use tokio::net::TcpListener;

use crate::fault::Link;
use crate::history::op::{
    ANSWERED, ANSWERED_THEN_RESET, Op, PEER_CLOSED, RecvBegin, RecvEnd, SIG_UNCHECKED, SIG_VALID,
    Scripted,
};
use crate::links::Links;
use crate::nemesis::{Schedule, receiver_of_pair};
use crate::pair::Pair;
use crate::recorder::Recorder;
use crate::switch::ReceiverSwitch;

/// The running receivers.
pub(super) struct Receivers {
    running: Vec<Receiver>,
    targets: Arc<Vec<String>>,
    switch: ReceiverSwitch,
    pair: Option<Pair>,
}

impl Receivers {
    /// Starts the receivers of the schedule. Those of the main section are reached over links.
    pub(super) async fn start(
        schedule: &Schedule,
        recorder: &Recorder,
        links: &mut Links,
    ) -> io::Result<Self> {
        let mut count = schedule.events.iter().map(|event| event.receiver + 1).max().unwrap_or(1);
        // Without the addresses, the fault is skipped by name.
        let pair = schedule.needs_hosts().then(Pair::bind).and_then(Result::ok);
        if pair.is_some() {
            count = receiver_of_pair(&schedule.profile);
        }
        let script = script(schedule);
        let switch = ReceiverSwitch::default();
        let secrets: Secrets =
            schedule.secret.parse().expect("the schedule draws a secret of the right form");
        let mut running = Vec::new();
        let mut targets = Vec::new();
        let mut start = |number, listener, authority: String| {
            let journal = Journal::with_zero(recorder.zero());
            observe(&journal, recorder.clone(), number, authority.clone());
            targets.push(format!("http://{authority}/webhook"));
            let script = switched(script.clone(), number, switch.clone());
            running.push(Receiver::start(listener, secrets.clone(), script, journal));
        };
        for number in 0..count {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let mut address = listener.local_addr()?;
            // The other receivers belong to the section with default settings, which has no faults.
            if number < schedule.profile.receivers {
                address = links.lead(Link::ToReceiver(number), address)?;
            }
            start(number, listener, address.to_string());
        }
        let pair = pair.map(|(pair, listener)| {
            start(count, listener, pair.authority());
            pair
        });
        Ok(Self { running, targets: Arc::new(targets), switch, pair })
    }

    /// The switch that changes the behavior of receivers.
    pub(super) fn switch(&self) -> &ReceiverSwitch {
        &self.switch
    }

    /// The name with two addresses, if the plan needs it.
    pub(super) fn pair(&self) -> Option<&Pair> {
        self.pair.as_ref()
    }

    /// The URL of each receiver. The target of an event appends its ordinal.
    pub(super) fn targets(&self) -> Arc<Vec<String>> {
        Arc::clone(&self.targets)
    }

    pub(super) async fn stop(self) {
        for receiver in self.running {
            receiver.stop().await;
        }
    }
}

/// Returns the planned behavior by ordinal and attempt. Other requests get status 200.
fn script(schedule: &Schedule) -> Script {
    let planned: BTreeMap<u64, Vec<Behavior>> =
        schedule.events.iter().map(|event| (event.ordinal, event.script.clone())).collect();
    Arc::new(move |seen: &Seen| {
        let attempt = seen.attempt.unwrap_or(seen.arrival).max(1) as usize;
        let script = seen.ordinal.and_then(|ordinal| planned.get(&ordinal));
        let behavior = script.and_then(|script| script.get(attempt - 1));
        behavior.cloned().unwrap_or_else(|| Behavior::answer(200))
    })
}

/// Returns the script, which a switch can change.
fn switched(script: Script, number: u32, switch: ReceiverSwitch) -> Script {
    Arc::new(move |seen: &Seen| switch.behavior(number, script(seen)))
}

fn observe(journal: &Journal, recorder: Recorder, number: u32, authority: String) {
    journal.observe(Arc::new(move |receipt: &Receipt, moment| {
        let req = format!("r{number}-{}", receipt.seq);
        recorder.record(match moment {
            Moment::Begin => Op::RecvBegin(begin(receipt, req, &authority)),
            Moment::End => Op::RecvEnd(end(receipt, req)),
        });
    }));
}

fn begin(receipt: &Receipt, req: String, authority: &str) -> RecvBegin {
    RecvBegin {
        req,
        ordinal: receipt.ordinal,
        id: receipt.webhook_id.clone(),
        attempt: receipt.attempt,
        target: format!("http://{authority}{}", receipt.path),
        sha256: receipt.sha256.clone(),
        sig: match &receipt.signature {
            SignatureCheck::Valid => SIG_VALID.to_owned(),
            SignatureCheck::Invalid { reason } => format!("invalid: {reason}"),
            SignatureCheck::Unchecked { reason } => format!("{SIG_UNCHECKED}: {reason}"),
        },
        scripted: receipt.behavior.as_ref().map(Scripted::from),
    }
}

fn end(receipt: &Receipt, req: String) -> RecvEnd {
    let ending = receipt.ending.as_ref();
    let how = match ending {
        Some(Ending::Answered { .. }) => ANSWERED,
        Some(Ending::AnsweredThenReset { .. }) => ANSWERED_THEN_RESET,
        Some(Ending::Reset) => "reset",
        Some(Ending::Closed) => "closed",
        Some(Ending::BrokenOff) => "broken_off",
        Some(Ending::HungUntilPeerClosed) => "hung_until_peer_closed",
        Some(Ending::HungUntilBound) => "hung_until_bound",
        // The sender closes an endless response at its size limit: it was not killed.
        Some(Ending::PeerClosed) if is_endless(receipt) => "endless_until_peer_closed",
        Some(Ending::PeerClosed) => PEER_CLOSED,
        Some(Ending::Stopped) | None => "stopped",
    };
    let status = ending.and_then(Ending::whole_status);
    RecvEnd { req, ordinal: receipt.ordinal, status, how: how.to_owned() }
}

fn is_endless(receipt: &Receipt) -> bool {
    matches!(receipt.behavior, Some(Behavior::EndlessBody { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    // A kill counts if it ends an open request. A sender that stops reading must not count as
    // killed.
    #[test]
    fn sender_that_stops_reading_an_endless_body_is_not_killed() {
        let ended = |kind: &str| {
            let receipt = serde_json::json!({
                "seq": 1, "receiver": "127.0.0.1:1", "ordinal": 1, "path": "/1", "arrival": 1,
                "sha256": "", "bytes": 0, "signature": {"result": "valid"}, "head_us": 1,
                "begin_us": 1, "behavior": {"kind": kind}, "ending": {"how": "peer_closed"},
            });
            let receipt: Receipt = serde_json::from_value(receipt).expect("all that it needs");
            end(&receipt, "r0-1".into()).how
        };
        assert_eq!(ended("drip"), PEER_CLOSED);
        assert_eq!(ended("endless_body"), "endless_until_peer_closed");
    }
}
