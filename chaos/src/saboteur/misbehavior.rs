//! The deviations of the fake dispatcher: one method per place where a misbehavior can differ.
//!
//! Each method returns the honest result unless its misbehavior is active. The fake dispatcher
//! calls these methods and contains no other deviation.

use std::net::SocketAddr;
use std::time::Duration;

/// Result of one attempt as the HTTP client reports it: the status of a complete response, or the
/// class of the failure.
pub(super) type HttpResult = Result<u16, &'static str>;

/// Delay before the late commit. A kill within this time loses the event for certain.
const COMMIT_DELAY: Duration = Duration::from_secs(1);

/// Rows of other clients that an honest worker holds at most.
const FOREIGN_ROWS_MAX: usize = 64;
/// Pages of a scan that a saboteur does not exceed. 20,000 dead entries refer to more, and the
/// events of a run to fewer.
const SCAN_PAGES_MAX: u64 = 150;

/// The replies of the API to one kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replies {
    /// As the contract requires.
    Contract,
    /// Always with status 503.
    Unavailable,
    /// Never. The connection stays open.
    Never,
}

/// One deviation from an honest dispatcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misbehavior {
    /// No deviation.
    Honest,
    /// Does not store every seventh accepted event.
    ForgetsAfter202,
    /// Stores an event only some time after its 202.
    AcknowledgesBeforeCommit,
    /// Stores a new event for each post of an idempotency key.
    ForgetsKeys,
    /// Does not compare the bytes of a second post under a key.
    IgnoresOtherBytes,
    /// Stores the received part of an interrupted body.
    TakesHalfABody,
    /// Claims events that another worker holds.
    IgnoresTheLease,
    /// Does not limit the open attempts per host.
    IgnoresTheHostCap,
    /// Does not release the events of a killed worker.
    NeverReclaims,
    /// Sends the first retry with the number of the first attempt.
    CountsARetryAsTheFirst,
    /// Records every fifth event as delivered and does not send it.
    SaysDeliveredUnsent,
    /// Records the first attempt of every third event as failed and does not make it.
    SaysFailedUnsent,
    /// Sends each event to the host of the event before it.
    SendsElsewhere,
    /// Sends a re-serialized payload.
    Reserializes,
    /// Signs the body without its last byte.
    SignsWrongly,
    /// Records a 500 as a success.
    Calls500Success,
    /// Records a timeout as a success.
    CallsTimeoutSuccess,
    /// Takes unread bytes of a kept connection for the response to the next request.
    TakesStrayResponses,
    /// Connects only to the first address of a name.
    TriesOneAddress,
    /// Retries without a delay.
    RetriesWithoutBackoff,
    /// Retries before the requested delay.
    IgnoresRetryAfter,
    /// Gives up after two failures.
    GivesUpEarly,
    /// Reports that it is ready when its database does not respond.
    AlwaysReady,
    /// Keeps the database session of each readiness check.
    LeaksSessions,
    /// Keeps a database session that was read-only, and does not write on it again.
    KeepsReadOnlySessions,
    /// Keeps all connections to the database for posts, and claims on those that are left.
    ServesPostsFirst,
    /// Claims nothing if a scan of the due events reads many pages.
    StopsLongScans,
    /// Reads the payload of each claimed event over one session, one after the other.
    FetchesInTurn,
    /// Claims every due event, and sends them in the order of their due times.
    SendsInOrder,
    /// Settles an attempt only when its line is in the log.
    WaitsForItsLog,
    /// Exits if its first line cannot be written.
    ExitsWithoutItsLog,
    /// Gives the connections of its API to the clients that come first, and keeps them.
    ServesFirstComers,
    /// Responds to every post with 503.
    RefusesPosts,
    /// Does not respond to posts.
    IgnoresPosts,
    /// Does not respond to reads of events.
    IgnoresReads,
}

impl Misbehavior {
    /// Returns true if a connection beyond the limit waits until another one ends.
    pub(super) fn keeps_first_connections(self) -> bool {
        self == Self::ServesFirstComers
    }

    /// Returns the replies to `POST /events`.
    pub(super) fn posts(self) -> Replies {
        match self {
            Self::RefusesPosts => Replies::Unavailable,
            Self::IgnoresPosts => Replies::Never,
            _ => Replies::Contract,
        }
    }

    /// Returns the replies to `GET /events/{id}`.
    pub(super) fn reads(self) -> Replies {
        match self {
            Self::IgnoresReads => Replies::Never,
            _ => Replies::Contract,
        }
    }

    /// Returns false if the `number`-th accepted event, counted from 1, is not stored.
    pub(super) fn stores(self, number: u64) -> bool {
        self != Self::ForgetsAfter202 || !number.is_multiple_of(7)
    }

    /// Returns the time between the 202 and the commit if the commit is late.
    pub(super) fn commit_delay(self) -> Option<Duration> {
        (self == Self::AcknowledgesBeforeCommit).then_some(COMMIT_DELAY)
    }

    /// Returns true if a second post of an idempotency key is recognized.
    pub(super) fn remembers_keys(self) -> bool {
        self != Self::ForgetsKeys
    }

    /// Returns true if other bytes under a known key are refused.
    pub(super) fn compares_bytes(self) -> bool {
        self != Self::IgnoresOtherBytes
    }

    /// Returns true if an interrupted body is refused.
    pub(super) fn requires_complete_bodies(self) -> bool {
        self != Self::TakesHalfABody
    }

    /// Returns true if an event that another worker holds is not claimed.
    pub(super) fn respects_claims(self) -> bool {
        self != Self::IgnoresTheLease
    }

    /// Returns true if the open attempts per host are limited.
    pub(super) fn limits_hosts(self) -> bool {
        !matches!(self, Self::IgnoresTheHostCap | Self::SendsInOrder)
    }

    /// Returns the number of rows of other clients that a worker may hold.
    pub(super) fn foreign_rows_max(self) -> usize {
        if self == Self::SendsInOrder { usize::MAX } else { FOREIGN_ROWS_MAX }
    }

    /// Returns true if the events of a killed worker become due again.
    pub(super) fn reclaims(self) -> bool {
        self != Self::NeverReclaims
    }

    /// Returns true if an attempt after `failures` failures gets a new number.
    pub(super) fn counts_attempt(self, failures: u32) -> bool {
        self != Self::CountsARetryAsTheFirst || failures != 1
    }

    /// Returns the result that is recorded without a request, or `None` if the attempt is made.
    pub(super) fn result_without_sending(self, number: u64, attempt: u32) -> Option<HttpResult> {
        match self {
            Self::SaysDeliveredUnsent if number.is_multiple_of(5) => Some(Ok(200)),
            Self::SaysFailedUnsent if number.is_multiple_of(3) && attempt == 1 => {
                Some(Err("connect"))
            }
            _ => None,
        }
    }

    /// Returns the URL to which an event for `target` is sent, where `previous` is the target of
    /// the event that was sent before.
    pub(super) fn target(self, target: &str, previous: Option<&str>) -> String {
        let moved = previous.filter(|_| self == Self::SendsElsewhere).and_then(|previous| {
            let (base, _) = previous.rsplit_once('/')?;
            let (_, ordinal) = target.rsplit_once('/')?;
            Some(format!("{base}/{ordinal}"))
        });
        moved.unwrap_or_else(|| target.to_owned())
    }

    /// Returns the body that is sent for a payload.
    pub(super) fn body(self, payload: &str) -> String {
        let parsed = match self {
            Self::Reserializes => serde_json::from_str::<serde_json::Value>(payload).ok(),
            _ => None,
        };
        parsed.map_or_else(|| payload.to_owned(), |value| value.to_string())
    }

    /// Returns the bytes that are signed for a body.
    pub(super) fn signed_bytes(self, body: &[u8]) -> &[u8] {
        match self {
            Self::SignsWrongly => &body[..body.len().saturating_sub(1)],
            _ => body,
        }
    }

    /// Returns true if a kept connection is used without a check for unread bytes.
    pub(super) fn trusts_kept_connections(self) -> bool {
        self == Self::TakesStrayResponses
    }

    /// Returns the addresses of a name to which an attempt connects in turn.
    pub(super) fn addresses(self, found: &[SocketAddr]) -> &[SocketAddr] {
        match self {
            Self::TriesOneAddress => &found[..found.len().min(1)],
            _ => found,
        }
    }

    /// Returns true if a result is recorded as delivered.
    pub(super) fn is_success(self, result: HttpResult) -> bool {
        let wrongly = match self {
            Self::Calls500Success => result == Ok(500),
            Self::CallsTimeoutSuccess => result == Err("timeout"),
            _ => false,
        };
        wrongly || result.is_ok_and(|status| (200..300).contains(&status))
    }

    /// Returns the delay after a failure, in milliseconds, from the delay of the retry rule and the
    /// delay that the receiver requested.
    pub(super) fn delay_ms(self, rule_ms: u64, requested_ms: u64) -> u64 {
        match self {
            Self::RetriesWithoutBackoff => 0,
            Self::IgnoresRetryAfter => rule_ms,
            _ => rule_ms.max(requested_ms),
        }
    }

    /// Returns true if a worker is ready whose database responds or does not.
    pub(super) fn is_ready(self, database_responds: bool) -> bool {
        database_responds || self == Self::AlwaysReady
    }

    /// Returns true if a session is closed after its use.
    pub(super) fn closes_sessions(self) -> bool {
        self != Self::LeaksSessions
    }

    /// Returns true if a session on which a write was refused as read-only is kept.
    pub(super) fn keeps_read_only_sessions(self) -> bool {
        self == Self::KeepsReadOnlySessions
    }

    /// Returns true if posts leave one session to the worker.
    pub(super) fn reserves_a_session(self) -> bool {
        self != Self::ServesPostsFirst
    }

    /// Returns the number of pages after which a scan of the due events is stopped, if any.
    pub(super) fn scan_pages_max(self) -> Option<u64> {
        (self == Self::StopsLongScans).then_some(SCAN_PAGES_MAX)
    }

    /// Returns true if the payload of each claimed event is read in turn.
    pub(super) fn fetches_in_turn(self) -> bool {
        self == Self::FetchesInTurn
    }

    /// Returns true if an attempt is settled only when its line is in the log.
    pub(super) fn waits_for_its_log(self) -> bool {
        self == Self::WaitsForItsLog
    }

    /// Returns true if a worker exits when its log cannot be written.
    pub(super) fn exits_without_its_log(self) -> bool {
        self == Self::ExitsWithoutItsLog
    }

    /// Returns the number of failures after which an event is dead if the setting is `max`.
    pub(super) fn attempts_max(self, max: u32) -> u32 {
        match self {
            Self::GivesUpEarly => max.min(2),
            _ => max,
        }
    }
}
