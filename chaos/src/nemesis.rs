//! The nemesis: what is done to the system, and the register of its faults.
//!
//! Each fault is one file with `draw` (plain data out of the seed), `apply` (its whole life: request,
//! effect, hold, heal, end) and `heal`. A fault whose effect was not observed does not count as
//! coverage. Faults are applied one after the other. Only the runner decides when the storm ends.

mod abort_upload;
mod black_hole;
mod crash_loop;
mod cut_commit;
mod draw;
mod exhaust_connections;
mod fill_disk;
mod flap_receiver;
mod give_up;
mod hang_receiver;
mod hold_lock;
mod kill_backend;
mod kill_postgres;
mod kill_worker;
mod latency;
mod long_transaction;
mod one_way;
mod outage;
mod over_link;
mod overload;
mod own_event;
mod pause_postgres;
mod pause_worker;
mod refuse_receiver;
mod reset;
mod same_key;
mod scale;
mod slow_upload;
mod stop_postgres;
mod swizzle;
mod terminate_sessions;
mod terminate_worker;
mod trigger;
mod world;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until};

use crate::fault::Kind;
use crate::history::op::{FaultEnd, Op};
use crate::profile::Profile;
use crate::seed::Seed;
use crate::system::{System, SystemError};

pub use abort_upload::AbortUpload;
pub use black_hole::BlackHole;
pub use crash_loop::CrashLoop;
pub use cut_commit::CutCommit;
pub use exhaust_connections::ExhaustConnections;
pub use fill_disk::FillDisk;
pub use flap_receiver::FlapReceiver;
pub use give_up::GiveUp;
pub use hang_receiver::HangReceiver;
pub use hold_lock::HoldLock;
pub use kill_backend::KillBackend;
pub use kill_postgres::KillPostgres;
pub use kill_worker::KillWorker;
pub use latency::Latency;
pub use long_transaction::LongTransaction;
pub use one_way::OneWay;
pub use overload::Overload;
pub use pause_postgres::PausePostgres;
pub use pause_worker::PauseWorker;
pub use refuse_receiver::RefuseReceiver;
pub use reset::Reset;
pub use same_key::SameKey;
pub use scale::Scale;
pub use slow_upload::SlowUpload;
pub use stop_postgres::StopPostgres;
pub use swizzle::Swizzle;
pub use terminate_sessions::TerminateSessions;
pub use terminate_worker::TerminateWorker;
pub use trigger::{Sight, Trigger};
pub use world::World;

/// How much longer than a lease a fault lasts at most, in milliseconds; less than a client waits.
pub const BEYOND_LEASE_MS_MAX: u64 = 2_500;

/// How long a fault of a receiver lasts at most, in milliseconds.
pub const RECEIVER_FAULT_MS_MAX: u64 = 5_000;
/// Leases of one event that a fault of the database, or of the link to it, ends at most: it lasts
/// little longer than one lease, and an event that was claimed again may be hit once more.
const OUTAGE_ABANDONS_MAX: u32 = 3;

/// One fault of the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedFault {
    /// When it may begin.
    pub trigger: Trigger,
    /// What is done.
    pub fault: Fault,
}

/// Every kind of fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "f")]
pub enum Fault {
    /// SIGKILL of a worker, and its restart.
    #[serde(rename = "worker.kill")]
    KillWorker(KillWorker),
    /// SIGSTOP of a worker past its lease, then SIGCONT.
    #[serde(rename = "worker.pause")]
    PauseWorker(PauseWorker),
    /// SIGTERM of each worker in turn, and its restart.
    #[serde(rename = "worker.terminate")]
    TerminateWorker(TerminateWorker),
    /// SIGKILL of a worker again and again.
    #[serde(rename = "worker.crash_loop")]
    CrashLoop(CrashLoop),
    /// Fewer workers, more, none, and back.
    #[serde(rename = "worker.scale")]
    Scale(Scale),
    /// A link that is late.
    #[serde(rename = "net.latency")]
    Latency(Latency),
    /// A link that swallows everything.
    #[serde(rename = "net.black_hole")]
    BlackHole(BlackHole),
    /// A link that swallows one direction.
    #[serde(rename = "net.one_way")]
    OneWay(OneWay),
    /// Resets at a byte.
    #[serde(rename = "net.reset")]
    Reset(Reset),
    /// A commit whose reply is lost.
    #[serde(rename = "net.cut_commit")]
    CutCommit(CutCommit),
    /// Links that are cut and healed in another order.
    #[serde(rename = "net.swizzle")]
    Swizzle(Swizzle),
    /// The polite end of sessions.
    #[serde(rename = "postgres.terminate")]
    TerminateSessions(TerminateSessions),
    /// SIGKILL of one backend.
    #[serde(rename = "postgres.kill_backend")]
    KillBackend(KillBackend),
    /// The immediate stop of the server.
    #[serde(rename = "postgres.immediate_stop")]
    StopPostgres(StopPostgres),
    /// SIGKILL of the postmaster.
    #[serde(rename = "postgres.kill")]
    KillPostgres(KillPostgres),
    /// SIGSTOP of the server, then SIGCONT.
    #[serde(rename = "postgres.pause")]
    PausePostgres(PausePostgres),
    /// Every connection of the server taken.
    #[serde(rename = "postgres.exhaust")]
    ExhaustConnections(ExhaustConnections),
    /// A lock on events that somebody holds.
    #[serde(rename = "postgres.lock")]
    HoldLock(HoldLock),
    /// An idle transaction that holds events.
    #[serde(rename = "postgres.long_transaction")]
    LongTransaction(LongTransaction),
    /// A full disk under the server.
    #[serde(rename = "postgres.disk_full")]
    FillDisk(FillDisk),
    /// Many posts of one key at once.
    #[serde(rename = "client.same_key")]
    SameKey(SameKey),
    /// Uploads that are broken off.
    #[serde(rename = "client.abort")]
    AbortUpload(AbortUpload),
    /// Uploads that come a byte at a time.
    #[serde(rename = "client.slow_upload")]
    SlowUpload(SlowUpload),
    /// A burst of posts.
    #[serde(rename = "client.overload")]
    Overload(Overload),
    /// Posts whose answer is not waited for.
    #[serde(rename = "client.give_up")]
    GiveUp(GiveUp),
    /// One receiver takes every request and answers none.
    #[serde(rename = "receiver.hang")]
    HangReceiver(HangReceiver),
    /// One receiver refuses connections.
    #[serde(rename = "receiver.refuse")]
    RefuseReceiver(RefuseReceiver),
    /// One receiver refuses connections, is back, refuses again.
    #[serde(rename = "receiver.flap")]
    FlapReceiver(FlapReceiver),
}

/// Draws the faults of one kind.
type Draw = fn(Seed, &Profile) -> Vec<PlannedFault>;

macro_rules! faults {
    ($($module:ident::$fault:ident,)*) => {
        /// Every kind of fault that a run of the real tier can have.
        pub const KINDS: &[Kind] = &[$($module::KIND,)*];

        const DRAWS: &[Draw] = &[$($module::draw,)*];

        $(impl $fault {
            /// The kind of this fault.
            pub const KIND: Kind = $module::KIND;
        })*

        impl Fault {
            /// The kind of the fault.
            #[must_use]
            pub const fn kind(&self) -> Kind {
                match self {
                    $(Fault::$fault(_) => $module::KIND,)*
                }
            }
        }
    };
}

faults! {
    kill_worker::KillWorker,
    pause_worker::PauseWorker,
    terminate_worker::TerminateWorker,
    crash_loop::CrashLoop,
    scale::Scale,
    latency::Latency,
    black_hole::BlackHole,
    one_way::OneWay,
    reset::Reset,
    cut_commit::CutCommit,
    swizzle::Swizzle,
    terminate_sessions::TerminateSessions,
    kill_backend::KillBackend,
    stop_postgres::StopPostgres,
    kill_postgres::KillPostgres,
    pause_postgres::PausePostgres,
    exhaust_connections::ExhaustConnections,
    hold_lock::HoldLock,
    long_transaction::LongTransaction,
    fill_disk::FillDisk,
    same_key::SameKey,
    abort_upload::AbortUpload,
    slow_upload::SlowUpload,
    overload::Overload,
    give_up::GiveUp,
    hang_receiver::HangReceiver,
    refuse_receiver::RefuseReceiver,
    flap_receiver::FlapReceiver,
}

/// The kind of this name.
#[must_use]
pub fn kind(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name)
}

impl PlannedFault {
    /// Draws every fault of a run, in order of time.
    #[must_use]
    pub fn draw_all(seed: Seed, profile: &Profile) -> Vec<PlannedFault> {
        let drawn = DRAWS.iter().map(|draw| draw(seed, profile));
        let mut faults: Vec<PlannedFault> = drawn.flatten().collect();
        faults.sort_by_key(|fault| fault.trigger.at_ms);
        faults
    }
}

impl Fault {
    /// The name of its kind.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.kind().name
    }

    /// How many events it may add to those of the plan.
    #[must_use]
    pub const fn events(&self) -> u64 {
        match self {
            Fault::SameKey(same_key) => same_key.events(),
            Fault::AbortUpload(abort) => abort.events(),
            Fault::SlowUpload(slow) => slow.events(),
            Fault::Overload(overload) => overload.events(),
            Fault::GiveUp(give_up) => give_up.events(),
            _ => 0,
        }
    }

    async fn apply<S: System>(&self, world: &mut World<'_, S>, fault: u64, on: Sight) -> Applied {
        match self {
            Fault::KillWorker(kill) => kill.apply(world, fault, on).await,
            Fault::PauseWorker(pause) => pause.apply(world, fault).await,
            Fault::TerminateWorker(terminate) => terminate.apply(world, fault).await,
            Fault::CrashLoop(crash_loop) => crash_loop.apply(world, fault).await,
            Fault::Scale(scale) => scale.apply(world, fault).await,
            Fault::Latency(latency) => latency.apply(world, fault).await,
            Fault::BlackHole(black_hole) => black_hole.apply(world, fault).await,
            Fault::OneWay(one_way) => one_way.apply(world, fault).await,
            Fault::Reset(reset) => reset.apply(world, fault).await,
            Fault::CutCommit(cut_commit) => cut_commit.apply(world, fault).await,
            Fault::Swizzle(swizzle) => swizzle.apply(world, fault).await,
            Fault::TerminateSessions(of) => of.apply(world, fault).await,
            Fault::KillBackend(of) => of.apply(world, fault).await,
            Fault::StopPostgres(of) => of.apply(world, fault).await,
            Fault::KillPostgres(of) => of.apply(world, fault).await,
            Fault::PausePostgres(of) => of.apply(world, fault).await,
            Fault::ExhaustConnections(of) => of.apply(world, fault).await,
            Fault::HoldLock(of) => of.apply(world, fault).await,
            Fault::LongTransaction(of) => of.apply(world, fault).await,
            Fault::FillDisk(of) => of.apply(world, fault).await,
            Fault::SameKey(same_key) => same_key.apply(world, fault).await,
            Fault::AbortUpload(abort) => abort.apply(world, fault).await,
            Fault::SlowUpload(slow) => slow.apply(world, fault).await,
            Fault::Overload(overload) => overload.apply(world, fault).await,
            Fault::GiveUp(give_up) => give_up.apply(world, fault).await,
            Fault::HangReceiver(hang) => hang.apply(world, fault).await,
            Fault::RefuseReceiver(refuse) => refuse.apply(world, fault).await,
            Fault::FlapReceiver(flap) => flap.apply(world, fault).await,
        }
    }

    /// Undoes the fault. Harmless when there is nothing to undo.
    async fn heal<S: System>(&self, world: &mut World<'_, S>) -> Applied {
        match self {
            Fault::KillWorker(kill) => kill.heal(world).await,
            Fault::PauseWorker(pause) => pause.heal(world).await,
            Fault::TerminateWorker(_) => terminate_worker::heal(world).await,
            Fault::CrashLoop(crash_loop) => crash_loop.heal(world).await,
            Fault::Scale(_) => scale::heal(world).await,
            Fault::Latency(latency) => latency.heal(world),
            Fault::BlackHole(black_hole) => black_hole.heal(world),
            Fault::OneWay(one_way) => one_way.heal(world),
            Fault::Reset(reset) => reset.heal(world),
            Fault::CutCommit(cut_commit) => cut_commit.heal(world),
            Fault::Swizzle(swizzle) => swizzle.heal(world),
            Fault::HangReceiver(hang) => hang.heal(world),
            Fault::RefuseReceiver(refuse) => refuse.heal(world),
            Fault::FlapReceiver(flap) => flap.heal(world),
            Fault::TerminateSessions(_)
            | Fault::KillBackend(_)
            | Fault::StopPostgres(_)
            | Fault::KillPostgres(_)
            | Fault::PausePostgres(_)
            | Fault::ExhaustConnections(_)
            | Fault::HoldLock(_)
            | Fault::LongTransaction(_)
            | Fault::FillDisk(_) => outage::heal(world).await,
            // Clients end by themselves.
            Fault::SameKey(_)
            | Fault::AbortUpload(_)
            | Fault::SlowUpload(_)
            | Fault::Overload(_)
            | Fault::GiveUp(_) => Ok(()),
        }
    }
}

type Applied = Result<(), SystemError>;

/// Applies every fault of the plan in turn, each when its trigger says. A fault whose trigger never
/// came true, or that the system cannot do, is skipped by name with the reason.
///
/// # Errors
/// When the system does not do what it can, or does not come back: the harness can say nothing then.
pub async fn run<S: System>(
    faults: &[PlannedFault],
    world: &mut World<'_, S>,
    begin: Instant,
) -> Applied {
    for (planned, fault) in faults.iter().zip(1_u64..) {
        sleep_until(begin + Duration::from_millis(planned.trigger.at_ms)).await;
        if let Err(why) = planned.trigger.wait(world.recorder, world.links).await {
            world.skip(planned.fault.name(), why);
            continue;
        }
        match planned.fault.apply(world, fault, planned.trigger.on).await {
            Err(SystemError::Unavailable { driver, why }) => {
                world.skip(planned.fault.name(), format!("{driver}: {why}"));
                // Whatever was begun is over.
                planned.fault.heal(world).await?;
                world.recorder.record(Op::FaultEnd(FaultEnd { fault }));
            }
            applied => applied?,
        }
    }
    Ok(())
}

/// Heals every fault of the plan.
///
/// # Errors
/// When the system does not come back.
pub async fn heal_all<S: System>(faults: &[PlannedFault], world: &mut World<'_, S>) -> Applied {
    for planned in faults {
        planned.fault.heal(world).await?;
    }
    Ok(())
}
