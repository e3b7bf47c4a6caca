//! A worker whose log cannot be written: its reader stalls, its disk is full, or its reader has
//! exited. The worker must deliver, and must exit on SIGTERM.
//!
//! Endangers: liveness, the exit within the grace, panics of a process that cannot print. A stalled
//! reader is a pipe that is nearly full when the worker starts, and full when it is ready. The
//! effect is that the pipe is full, or that the worker ran without a log. The checker
//! `graceful_stop` judges the exit.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use rand::RngExt;
use rand::seq::IndexedRandom;
use serde::{Deserialize, Serialize};
use tokio::time::sleep_until;

use super::outage::over_in;
use super::strike::{Draw, Observed, Start, Stopped, Strike};
use super::terminate_worker::HARM;
use super::world::World;
use crate::fault::{Family, Kind, Needs, Target};
use crate::plan::{Condition, PlannedFault};
use crate::system::{System, SystemError, WorkerSpec};

/// Shortest time without a log, in milliseconds.
const FOR_MS_MIN: u64 = 2_000;
/// Longest time without a log, in milliseconds.
const FOR_MS_MAX: u64 = 4_000;
/// Space that is left in the pipe of a stalled reader, in bytes. The first lines of a start fit in.
const ROOM_BYTES: usize = 16 * 1024;
/// Bytes of one write to the pipe.
const PAGE_BYTES: usize = 4_096;
/// A device that refuses each write with ENOSPC.
const FULL_DISK: &str = "/dev/full";

/// A log that cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoseLog {
    /// The worker, from 0.
    pub worker: u32,
    /// The reason.
    pub how: LogLoss,
    /// Time without a log, in milliseconds.
    pub for_ms: u64,
}

/// The reason why a log cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLoss {
    /// The reader of the pipe does not read.
    Stalled,
    /// The disk is full.
    DiskFull,
    /// The reader of the pipe has exited.
    Closed,
}

impl Strike for LoseLog {
    const KIND: Kind = Kind {
        name: "worker.lose_log",
        family: Family::Worker,
        about: "a worker whose log reader stalls, whose log disk is full, or whose log is closed",
        needs: Needs::NOTHING,
        harm: HARM,
    };

    fn draw(draw: &Draw<'_>) -> Vec<PlannedFault<Self>> {
        draw.spread(|draws| {
            let lose = Self {
                worker: draws.random_range(0..draw.profile.workers),
                how: *[LogLoss::Stalled, LogLoss::DiskFull, LogLoss::Closed]
                    .choose(draws)
                    .expect("the list has entries"),
                for_ms: draws.random_range(FOR_MS_MIN..=FOR_MS_MAX),
            };
            (Condition::Time, lose)
        })
    }

    fn target(&self) -> Target {
        Target::Worker(self.worker)
    }

    async fn strike<S: System>(
        &self,
        world: &mut World<'_, S>,
        start: &Start,
    ) -> Result<Observed, SystemError> {
        if !world.system.opens_logs() {
            return Err(SystemError::Unavailable {
                driver: "log",
                why: "this driver reads the output of workers through another program".to_owned(),
            });
        }
        let spec = world.worker(self.worker).clone();
        let sink = match self.how {
            LogLoss::DiskFull => None,
            LogLoss::Stalled | LogLoss::Closed => Some(Pipe::create(&spec.log)?),
        };
        let mut stopped = vec![world.terminate(&spec.name).await?];
        let without = WorkerSpec {
            log: sink.as_ref().map_or(FULL_DISK.into(), |pipe| pipe.path.clone()),
            ..spec.clone()
        };
        match world.bring_up(&without).await {
            Ok(()) => {}
            Err(SystemError::Ended { exit, .. }) => {
                let ended_us = world.recorder.now_us();
                let seen = format!("the worker ended at its start without a log: {exit}");
                stopped.push(Stopped { worker: spec.name, asked_us: ended_us, ended_us, exit });
                return Ok(Observed { stopped, ..Observed::seen(start.at_us, Some(seen)) });
            }
            Err(error) => return Err(error),
        }
        let until = over_in(self.for_ms);
        let seen = match (self.how, sink) {
            (LogLoss::Stalled, Some(mut pipe)) => {
                // The lines of the start may have left some room.
                pipe.fill();
                sleep_until(until).await;
                stopped.push(world.terminate(&spec.name).await?);
                Some("the pipe of the log was full and not read".to_owned())
            }
            (_, sink) => {
                // The end of the reader is the fault.
                drop(sink);
                sleep_until(until).await;
                let ran = world.system.is_running(&spec.name);
                stopped.push(world.terminate(&spec.name).await?);
                let for_ms = self.for_ms;
                ran.then(|| format!("no line could be written for {for_ms} ms"))
            }
        };
        Ok(Observed { stopped, ..Observed::seen(start.at_us, seen) })
    }

    async fn heal<S: System>(&self, world: &mut World<'_, S>) -> Result<(), SystemError> {
        world.bring_all_up().await
    }
}

/// A named pipe beside the log. The harness holds its reading end and does not read.
struct Pipe {
    path: PathBuf,
    file: File,
}

impl Pipe {
    /// Creates a pipe that has room for the first lines of a worker.
    fn create(log: &Path) -> Result<Self, SystemError> {
        let path = log.with_extension("pipe");
        let failed = |source: std::io::Error| SystemError::Os {
            doing: format!("creating {}", path.display()),
            source,
        };
        mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).map_err(|errno| failed(errno.into()))?;
        let nonblocking = OFlag::O_NONBLOCK.bits();
        let mut open = OpenOptions::new();
        let open = open.read(true).write(true).custom_flags(nonblocking);
        let file = open.open(&path).map_err(failed)?;
        let mut pipe = Self { path, file };
        let written = pipe.fill();
        let mut room = vec![0; ROOM_BYTES.min(written)];
        let read = std::io::Read::read_exact(&mut pipe.file, &mut room);
        read.map_err(|source| SystemError::Os {
            doing: format!("reading {}", pipe.path.display()),
            source,
        })?;
        Ok(pipe)
    }

    /// Fills the pipe, so that the next line of the worker waits. Returns the number of bytes.
    fn fill(&mut self) -> usize {
        let mut written = 0;
        for size in [PAGE_BYTES, 1] {
            while let Ok(bytes) = self.file.write(&[b'\n'; PAGE_BYTES][..size]) {
                written += bytes;
            }
        }
        written
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let _removed = std::fs::remove_file(&self.path);
    }
}
