//! The nemesis: draws, injects, records and heals the faults of the real tier.
//!
//! To add a fault, implement `Strike` in one file and add one line to `faults!`. Faults run one
//! after the other, because overlapping faults could not be told apart in the history. Only this
//! file records faults. Only the runner decides when the storm ends.

mod abort_upload;
mod black_hole;
mod client_event;
mod clock_offset;
mod crash_loop;
mod crowd;
mod cut_commit;
mod dead_address;
mod deep_backlog;
mod exhaust_connections;
mod few_connections;
mod fill_disk;
mod foreign_rows;
mod give_up;
mod hang_receiver;
mod hold_horizon;
mod hold_lock;
mod kept_connections;
mod kill_backend;
mod kill_worker;
mod latency;
mod long_transaction;
mod lose_log;
mod lose_standby;
mod observed;
mod outage;
mod over_link;
mod over_receiver;
mod overload;
mod pause_postgres;
mod pause_worker;
mod poison_row;
mod read_only;
mod refuse_receiver;
mod registry;
mod reset;
mod same_key;
mod scale;
mod slow_link;
mod slow_upload;
mod stop_postgres;
mod strike;
mod swizzle;
pub mod table;
mod terminate_sessions;
mod terminate_worker;
mod trigger;
mod world;

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::time::{Instant, sleep, sleep_until};

use crate::fault::{Kind, Needs, Planned, Target, kind_named};
use crate::history::op::{FaultEffect, FaultEnd, FaultSkip, FaultStart, Op, WorkerExit};
use crate::plan;
use crate::postgres::OwnServerError;
use crate::profile::Profile;
use crate::schedule;
use crate::seed::Seed;
use crate::system::{System, SystemError};
use registry::faults;
use strike::{Draw, Observed, Start, Strike};

pub use dead_address::receiver_of_pair;
pub use lose_log::LogLoss;
pub use observed::{BEYOND_LEASE_MS_MAX, RECEIVER_FAULT_MS_MAX};
pub use world::World;

/// A fault of a plan of the real tier.
pub type PlannedFault = plan::PlannedFault<Fault>;

/// The plan of a run of the real tier.
pub type Schedule = schedule::Schedule<Fault>;

// The order of the list is the order of `chaos list`, and of faults that start at the same time.
faults! {
    kill_worker::KillWorker,
    pause_worker::PauseWorker,
    terminate_worker::TerminateWorker,
    crash_loop::CrashLoop,
    scale::Scale,
    lose_log::LoseLog,
    latency::Latency,
    black_hole::BlackHole,
    black_hole::OneWay,
    reset::Reset,
    cut_commit::CutCommit,
    swizzle::Swizzle,
    terminate_sessions::TerminateSessions,
    kill_backend::KillBackend,
    stop_postgres::StopPostgres,
    stop_postgres::KillPostgres,
    pause_postgres::PausePostgres,
    exhaust_connections::ExhaustConnections,
    hold_lock::HoldLock,
    long_transaction::LongTransaction,
    read_only::ReadOnly,
    lose_standby::LoseStandby,
    few_connections::FewConnections,
    hold_horizon::HoldHorizon,
    poison_row::PoisonRow,
    fill_disk::FillDisk,
    same_key::SameKey,
    abort_upload::AbortUpload,
    slow_upload::SlowUpload,
    overload::Overload,
    give_up::GiveUp,
    crowd::Crowd,
    hang_receiver::HangReceiver,
    refuse_receiver::RefuseReceiver,
    refuse_receiver::FlapReceiver,
    hang_receiver::HangMost,
    kept_connections::StrayBytes,
    kept_connections::CloseKept,
    dead_address::DeadAddress,
    slow_link::SlowLink,
    deep_backlog::DeepBacklog,
    clock_offset::ClockOffset,
}

/// The kind with this name.
#[must_use]
pub fn kind(name: &str) -> Option<&'static Kind> {
    kind_named(KINDS, name)
}

/// Draws every fault of a run, in order of time.
#[must_use]
pub fn draw(seed: Seed, profile: &Profile) -> Vec<PlannedFault> {
    let mut faults = Fault::draw_kinds(&Draw { seed, profile, kinds: KINDS });
    faults.sort_by_key(|planned| planned.trigger.at_ms);
    faults
}

impl Schedule {
    /// Draws the plan of a seed. The same seed and profile give the same plan.
    #[must_use]
    pub fn generate(seed: Seed, profile: &Profile) -> Self {
        Self::new(seed, profile, draw(seed, profile))
    }
}

/// Injects every fault of the plan in turn. A fault whose trigger condition did not hold, or that
/// cannot be injected, is skipped with the reason.
///
/// # Errors
/// The system did not obey or did not recover, so that the harness cannot judge it.
pub async fn run<S: System>(
    faults: &[PlannedFault],
    world: &mut World<'_, S>,
    begin: Instant,
) -> Result<(), SystemError> {
    for (planned, number) in faults.iter().zip(1_u64..) {
        let (trigger, fault) = (&planned.trigger, &planned.fault);
        sleep_until(begin + Duration::from_millis(trigger.at_ms)).await;
        if let Err(why) = trigger::wait(trigger, world.recorder, world.links).await {
            skip(world, fault, why);
        } else if let Err(error) = check_needs(world, fault) {
            skip(world, fault, reason(error)?);
        } else {
            let start = start(world, number, planned);
            inject(world, number, fault, &start).await?;
        }
    }
    Ok(())
}

/// Heals every fault of the plan.
///
/// # Errors
/// The system did not recover.
pub async fn heal_all<S: System>(
    faults: &[PlannedFault],
    world: &mut World<'_, S>,
) -> Result<(), SystemError> {
    for planned in faults {
        planned.fault.heal(world).await?;
    }
    Ok(())
}

/// Strikes, records the effect, heals, and records the end.
async fn inject<S: System>(
    world: &mut World<'_, S>,
    number: u64,
    fault: &Fault,
    start: &Start,
) -> Result<(), SystemError> {
    match fault.strike(world, start).await {
        Ok(observed) => {
            let hold = observed.hold;
            effect(world, number, observed);
            sleep(hold).await;
        }
        Err(error) => skip(world, fault, reason(error)?),
    }
    fault.heal(world).await?;
    let end = FaultEnd { fault: number };
    world.recorder.record(Op::FaultEnd(end));
    Ok(())
}

/// Checks that the system has the parts that the kind of the fault needs.
fn check_needs<S: System>(world: &mut World<'_, S>, fault: &Fault) -> Result<(), SystemError> {
    let Needs { links, own_postgres, hosts, .. } = fault.kind().needs;
    if let Target::Links(targets) = fault.target()
        && links
    {
        for link in targets {
            world.link(link)?;
        }
    }
    if own_postgres {
        world.own_server()?;
    }
    if hosts {
        world.pair()?;
    }
    Ok(())
}

/// The reason why a fault is skipped. An error that does not state a missing part ends the run.
fn reason(error: SystemError) -> Result<String, SystemError> {
    match error {
        SystemError::Unavailable { driver, why } => Ok(format!("{driver}: {why}")),
        SystemError::Postgres(OwnServerError::NotHere(why)) => Ok(format!("postgres: {why}")),
        error => Err(error),
    }
}

fn skip<S>(world: &World<'_, S>, fault: &Fault, why: String) {
    let f = fault.kind().name.to_owned();
    world.recorder.record(Op::FaultSkip(FaultSkip { f, why }));
}

fn start<S>(world: &World<'_, S>, number: u64, planned: &PlannedFault) -> Start {
    let open = world.recorder.open_requests();
    let start = FaultStart {
        why: format!("{} requests are open", open.len()),
        open: open.keys().cloned().collect(),
        ..FaultStart::new(number, &planned.fault.kind(), planned.fault.target())
    };
    Start { on: planned.trigger.on, at_us: world.recorder.record(Op::FaultStart(start)), open }
}

fn effect<S>(world: &World<'_, S>, number: u64, observed: Observed) {
    for stopped in observed.stopped {
        world.recorder.record(Op::WorkerExit(WorkerExit {
            worker: stopped.worker,
            fault: number,
            asked_us: stopped.asked_us,
            ended_us: stopped.ended_us,
            code: stopped.exit.code,
            signal: stopped.exit.signal,
            forced: stopped.exit.forced,
        }));
    }
    world.recorder.record(Op::FaultEffect(FaultEffect {
        fault: number,
        effective_us: observed.effective_us,
        hit: observed.hit,
        observed: observed.seen,
    }));
}
