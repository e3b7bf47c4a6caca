//! Plan data about faults: kinds, targets, needs and harm. No IO and no import of the crate.
//!
//! Each kind declares its harm, and `fault.start` in the history stores the harm that applies to
//! the target of that fault. Checkers, budgets and bounds read these fields and compare no names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A kind of fault, of the real tier, of the simulation, or of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The `f` of plans and histories, such as `worker.kill`.
    pub name: &'static str,
    /// The part of the system to which it is done.
    pub family: Family,
    /// One line for `chaos list` and `docs/faults.md`.
    pub about: &'static str,
    /// Conditions without which it cannot be injected.
    pub needs: Needs,
    /// The harm that it may do to a correct dispatcher.
    pub harm: Harm,
}

/// The part of the system to which a fault is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Processes of the dispatcher.
    Worker,
    /// Receivers of webhooks.
    Receiver,
    /// Links between the parts.
    Network,
    /// The database server.
    Postgres,
    /// Clients of the API.
    Client,
    /// Calls of one worker to the store, in the simulation.
    Store,
    /// The presence connection of a worker, in the simulation.
    Presence,
    /// The clock of the database.
    Clock,
    /// Responses on their way to a worker, in the simulation.
    Response,
}

/// The families of the real tier with the words that name them in a proof.
pub const REAL_FAMILIES: &[(Family, &str)] = &[
    (Family::Worker, "workers"),
    (Family::Receiver, "receivers"),
    (Family::Network, "the network"),
    (Family::Postgres, "Postgres itself"),
    (Family::Clock, "the clock of the database"),
    (Family::Client, "clients"),
];

/// Conditions without which a fault cannot be injected. If one is missing, the fault is skipped
/// with the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// A proxy on the links of the main section.
    pub links: bool,
    /// A Postgres server that only this run uses.
    pub own_postgres: bool,
    /// A small file system for the data of that server, which only root may mount.
    pub small_disk: bool,
    /// A clock of that server that the harness can move, which needs libfaketime.
    pub clock: bool,
    /// Workers with a separate `/etc/hosts`, in a mount namespace.
    pub hosts: bool,
}

impl Needs {
    /// The fault can be injected everywhere.
    pub const NOTHING: Self =
        Self { links: false, own_postgres: false, small_disk: false, clock: false, hosts: false };
    /// The fault is injected by a proxy.
    pub const LINKS: Self = Self { links: true, ..Self::NOTHING };
    /// The fault stops, fills or blocks the whole server.
    pub const OWN_POSTGRES: Self = Self { own_postgres: true, ..Self::NOTHING };
    /// The fault needs a name with several addresses.
    pub const HOSTS: Self = Self { hosts: true, ..Self::NOTHING };
}

/// The harm that a fault may do to a correct dispatcher. It has no default, so that each kind
/// states every field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each field is an independent permission")]
pub struct Harm {
    /// Processes or attempts that end without cleanup.
    pub kills: Kills,
    /// Workers are stopped by SIGTERM, which ends their presence.
    pub stops_workers: bool,
    /// A worker may still run when its leases have expired.
    pub expires_leases: bool,
    /// A settle, or the reply to it, may be lost between a worker and the database.
    pub loses_settles: bool,
    /// A worker that runs may lose its presence.
    pub loses_presence: bool,
    /// Requests or responses may be lost or late between the workers and a receiver.
    pub loses_requests: bool,
    /// A receiver takes requests and does not respond.
    pub withholds_responses: bool,
    /// A worker has no socket or port left, so that attempts cannot be made.
    pub exhausts_machine: bool,
    /// The dispatcher must log at level ERROR.
    pub logs_errors: bool,
    /// The database cannot be reached or refuses writes, from the effect until the heal. Commits
    /// that wait for a standby do not count. Older histories do not have this field.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub denies_database: bool,
    /// Attempts of one event that one such fault may leave abandoned.
    pub abandons_max: u32,
    /// The time and the failed attempts that it adds to the drain bound.
    pub aftermath: Aftermath,
}

/// Processes or attempts that end without cleanup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kills {
    /// Nothing is killed.
    Nothing,
    /// One attempt panics, and its worker continues.
    OneAttempt,
    /// One worker is killed when the fault takes effect, and not again before its heal.
    WorkerOnce,
    /// Workers may be killed at any time until the heal.
    WorkersUntilHealed,
}

/// The state in which a fault may leave events when it is healed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aftermath {
    /// Events of the plan are not affected.
    Nothing,
    /// A lease has to end, and this many attempts of one event may have failed.
    Leases {
        /// Attempts of one event.
        attempts: u32,
    },
    /// The database may have been out of reach, and attempts failed, for longer than a lease.
    Outage {
        /// Milliseconds beyond the lease.
        beyond_lease_ms: u64,
    },
    /// Large events may be delayed for this time. A lease may have to end.
    LargeEvents {
        /// Milliseconds.
        for_ms: u64,
    },
    /// A receiver may have failed every attempt, and events queue for it.
    Receiver {
        /// Milliseconds.
        for_ms: u64,
    },
}

/// Faults of one kind in a plan, as the history states them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedKind {
    /// The family of the kind.
    pub family: Family,
    /// The declared harm of the kind.
    pub harm: Harm,
    /// Number of planned faults.
    pub count: u32,
}

/// The parts of the system to which one fault is done. Workers and receivers are counted from 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// One worker of the main section.
    Worker(u32),
    /// Every worker of the main section.
    EveryWorker,
    /// One process of a worker, by its worker id.
    Process {
        /// Number of the worker.
        worker: u32,
        /// Worker id of the process.
        id: String,
    },
    /// Links between the parts.
    Links(Vec<Link>),
    /// A receiver.
    Receiver(u32),
    /// Several receivers.
    Receivers(Vec<u32>),
    /// The database server.
    Postgres,
    /// The process of the database server that accepts connections. Open sessions continue.
    Postmaster,
    /// The connections of the database server. Every worker keeps enough of them.
    Connections,
    /// The API of every worker, through clients of the harness.
    Clients,
    /// The API of every worker, through clients without a key that take its connections.
    Strangers,
    /// A receiver of the fault, which is the target of no event of the plan.
    OtherReceiver,
}

/// A link between two parts. Its text form is the one of schedules, such as `w0->pg`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Link {
    /// A worker to its database.
    ToPostgres(u32),
    /// The clients to the API of a worker.
    ToApi(u32),
    /// The workers to a receiver.
    ToReceiver(u32),
}

/// A fault of one tier, as the schedules of this tier hold it.
pub trait Planned {
    /// Every kind of the tier.
    const KINDS: &'static [Kind];

    /// The kind of the fault.
    fn kind(&self) -> Kind;

    /// The number of events that the fault posts in addition to the plan.
    fn events(&self) -> u64 {
        0
    }
}

/// The kind with this name.
#[must_use]
pub fn kind_named<'k>(kinds: &'k [Kind], name: &str) -> Option<&'k Kind> {
    kinds.iter().find(|kind| kind.name == name)
}

/// A text that is not the name of a link.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a link: expected w0->pg, client->w0 or workers->r0")]
pub struct LinkNameError(String);

impl Kind {
    /// Returns true for the kind of kill that a profile counts apart from the other faults.
    #[must_use]
    pub fn is_kill(&self) -> bool {
        self.harm.kills == Kills::WorkerOnce
    }
}

impl Harm {
    /// The harm that applies to this target. A fault of links loses settles and denies the database
    /// only on a link to the database, and loses requests only on a link to a receiver. Without new
    /// connections, the open sessions still reach the database.
    #[must_use]
    pub fn on(self, target: &Target) -> Self {
        let links = match target {
            Target::Links(links) => Some(links),
            _ => None,
        };
        let leads = |to: fn(&Link) -> bool| links.is_some_and(|links| links.iter().any(to));
        let to_postgres = leads(|link| matches!(link, Link::ToPostgres(_)));
        let to_receiver = leads(|link| matches!(link, Link::ToReceiver(_)));
        let applied = Self {
            loses_settles: self.loses_settles && (links.is_none() || to_postgres),
            loses_requests: self.loses_requests && to_receiver,
            denies_database: self.denies_database
                && *target != Target::Postmaster
                && (links.is_none() || to_postgres),
            ..self
        };
        let abandons_max = if applied.may_abandon() { self.abandons_max } else { 0 };
        Self { abandons_max, ..applied }
    }

    /// Returns true if an attempt may not be settled under its lease.
    #[must_use]
    pub fn may_abandon(&self) -> bool {
        self.kills != Kills::Nothing
            || self.expires_leases
            || self.loses_settles
            || self.loses_presence
    }
}

impl Target {
    /// Returns true if the fault may hit the process with this worker id.
    #[must_use]
    pub fn may_be(&self, worker_id: &str) -> bool {
        match self {
            Self::Process { id, .. } => id == worker_id,
            _ => true,
        }
    }

    /// The receivers to which the fault is done themselves, not to their links.
    #[must_use]
    pub fn receivers(&self) -> &[u32] {
        match self {
            Self::Receiver(receiver) => std::slice::from_ref(receiver),
            Self::Receivers(receivers) => receivers,
            _ => &[],
        }
    }

    /// Returns true if the fault stands between this worker and its database.
    #[must_use]
    pub fn is_database_of(&self, worker: u32) -> bool {
        match self {
            Self::Links(links) => links.contains(&Link::ToPostgres(worker)),
            Self::Postgres | Self::Postmaster | Self::Connections => true,
            _ => false,
        }
    }

    /// Returns true if the fault is done to the link from the workers to this receiver.
    #[must_use]
    pub fn is_link_to_receiver(&self, receiver: u32) -> bool {
        matches!(self, Self::Links(links) if links.contains(&Link::ToReceiver(receiver)))
    }
}

/// The form of proofs and traces: `w0`, `every worker`, `w0/4711`, `w0->pg`, `r0`, `postgres`,
/// `postmaster`, `connections`, `every API`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Worker(worker) => write!(f, "w{worker}"),
            Self::EveryWorker => f.write_str("every worker"),
            Self::Process { worker, id } => write!(f, "w{worker}/{id}"),
            Self::Links(links) => {
                let names: Vec<String> = links.iter().map(Link::to_string).collect();
                f.write_str(&names.join("+"))
            }
            Self::Receiver(receiver) => write!(f, "r{receiver}"),
            Self::Receivers(receivers) => {
                let names: Vec<String> = receivers.iter().map(|r| format!("r{r}")).collect();
                f.write_str(&names.join("+"))
            }
            Self::Postgres => f.write_str("postgres"),
            Self::Postmaster => f.write_str("postmaster"),
            Self::Connections => f.write_str("connections"),
            Self::Clients | Self::Strangers => f.write_str("every API"),
            Self::OtherReceiver => f.write_str("another receiver"),
        }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ToPostgres(worker) => write!(f, "w{worker}->pg"),
            Self::ToApi(worker) => write!(f, "client->w{worker}"),
            Self::ToReceiver(receiver) => write!(f, "workers->r{receiver}"),
        }
    }
}

impl FromStr for Link {
    type Err = LinkNameError;

    fn from_str(text: &str) -> Result<Self, LinkNameError> {
        let number = |text: &str| text.parse().ok();
        let parse = || match text.split_once("->")? {
            ("client", to) => Some(Self::ToApi(number(to.strip_prefix('w')?)?)),
            ("workers", to) => Some(Self::ToReceiver(number(to.strip_prefix('r')?)?)),
            (from, "pg") => Some(Self::ToPostgres(number(from.strip_prefix('w')?)?)),
            _ => None,
        };
        parse().ok_or_else(|| LinkNameError(text.to_owned()))
    }
}

impl TryFrom<String> for Link {
    type Error = LinkNameError;

    fn try_from(text: String) -> Result<Self, LinkNameError> {
        text.parse()
    }
}

impl From<Link> for String {
    fn from(link: Link) -> Self {
        link.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_link_reads_back_from_its_name() {
        for link in [Link::ToPostgres(0), Link::ToApi(1), Link::ToReceiver(12)] {
            assert_eq!(link.to_string().parse(), Ok(link));
        }
        for wrong in ["", "w0", "w->pg", "w0->r1", "client->r0", "workers->rx"] {
            assert_eq!(wrong.parse::<Link>(), Err(LinkNameError(wrong.into())));
        }
    }

    #[test]
    fn fault_of_links_harms_only_the_ends_of_its_links() {
        let declared = Harm {
            kills: Kills::Nothing,
            stops_workers: false,
            expires_leases: false,
            loses_settles: true,
            loses_presence: false,
            loses_requests: true,
            withholds_responses: false,
            exhausts_machine: false,
            logs_errors: false,
            denies_database: true,
            abandons_max: 3,
            aftermath: Aftermath::Nothing,
        };
        let on = |links: &[Link]| {
            let harm = declared.on(&Target::Links(links.to_vec()));
            assert_eq!(harm.denies_database, harm.loses_settles);
            (harm.loses_settles, harm.loses_requests, harm.abandons_max)
        };
        assert_eq!(on(&[Link::ToPostgres(0)]), (true, false, 3));
        assert_eq!(on(&[Link::ToReceiver(0)]), (false, true, 0));
        assert_eq!(on(&[Link::ToApi(0)]), (false, false, 0));
        let both = [Link::ToReceiver(0), Link::ToPostgres(1)];
        assert_eq!(on(&both), (true, true, 3));
        let harm = declared.on(&Target::Postgres);
        assert!(harm.loses_settles && !harm.loses_requests && harm.denies_database);
        let harm = declared.on(&Target::Postmaster);
        assert!(harm.loses_settles && !harm.denies_database);
    }
}
