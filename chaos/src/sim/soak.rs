//! Many seeds in a row: how many, how fast, what they reached, and the first that failed.
//!
//! A part of the seeds is run twice, and both runs must give the same history to the last byte: the
//! number of a failing seed is worth something only as long as that holds.

use std::sync::Arc;

use super::goals::Goals;
use super::mutant::Specimen;
use super::run::Simulator;
use super::schedule::{SimSchedule, Size};
use crate::checker::Finding;
use crate::seed::Seed;

/// One seed of so many is run twice in a long run.
pub const AGAIN_ONE_IN: u64 = 20;

/// A seed whose history breaks an invariant.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: Seed,
    /// Its schedule.
    pub schedule: Arc<SimSchedule>,
    /// The first invariant that is broken.
    pub finding: Finding,
}

/// A soak under way.
pub struct Soak {
    simulator: Simulator,
    size: Size,
    specimen: Option<&'static Specimen>,
    /// Seeds that were run.
    pub seeds: u64,
    /// Seeds of them that were run twice.
    pub again: u64,
    /// Seeds that failed.
    pub failed: u64,
    /// The first of them.
    pub failure: Option<Failure>,
    /// The first seed whose second run told another story.
    pub unsteady: Option<Seed>,
    /// What was reached.
    pub goals: Goals,
}

impl Soak {
    /// A soak that has run nothing; of a mutant, only its predicted killer counts.
    #[must_use]
    pub fn new(size: Size, specimen: Option<&'static Specimen>) -> Soak {
        Soak {
            simulator: Simulator::new(),
            size,
            specimen,
            seeds: 0,
            again: 0,
            failed: 0,
            failure: None,
            unsteady: None,
            goals: Goals::default(),
        }
    }

    /// Runs one seed; true when its history keeps every invariant.
    pub fn one(&mut self, seed: Seed, again: bool) -> bool {
        let schedule = Arc::new(SimSchedule::generate(seed, self.size));
        let mutant = self.specimen.map(|specimen| specimen.mutant);
        let ran = self.simulator.run(&schedule, mutant);
        self.seeds += 1;
        self.goals.take(&ran.ops);
        if again {
            self.again += 1;
            let second = self.simulator.run(&schedule, mutant);
            if ran.history().tail() != second.history().tail() {
                self.unsteady.get_or_insert(seed);
            }
        }
        let counts = |finding: &Finding| {
            let killer = self.specimen.map(|specimen| specimen.killer);
            finding.verdict.is_invalid() && killer.is_none_or(|killer| finding.checker == killer)
        };
        let Some(finding) = ran.findings().into_iter().find(counts) else {
            return true;
        };
        self.failed += 1;
        self.failure.get_or_insert(Failure {
            seed,
            schedule,
            finding,
        });
        false
    }

    /// The exit code: nondeterminism before a broken invariant, and nothing run is unknown.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        use crate::checker::{Kind, Overall};
        match (&self.unsteady, &self.failure) {
            (Some(_), _) => EXIT_UNSTEADY,
            (None, Some(failure)) if failure.finding.kind == Kind::Liveness => {
                Overall::Stuck.exit_code()
            }
            (None, Some(_)) => Overall::Unsafe.exit_code(),
            (None, None) if self.seeds == 0 => Overall::Unknown.exit_code(),
            (None, None) => Overall::Pass.exit_code(),
        }
    }
}

/// Exit code of a run that did not repeat itself.
pub const EXIT_UNSTEADY: u8 = 5;
