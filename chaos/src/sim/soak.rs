//! Runs many seeds: counts seeds and goals, and keeps the first failure.
//!
//! Some seeds run twice. If the two histories differ in one byte, the number of a failing seed
//! would not reproduce its failure, so this is an error of its own kind.

use std::sync::Arc;

use super::goals::Goals;
use super::mutant::table::MutantSpec;
use super::run::Simulator;
use super::schedule::{SimSchedule, Size};
use crate::checker::Finding;
use crate::seed::Seed;

/// One of this number of seeds runs twice in a long run.
pub const REPEAT_ONE_IN: u64 = 20;

/// A seed whose history breaks an invariant.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed from which the schedule was drawn.
    pub seed: Seed,
    /// The schedule of the seed.
    pub schedule: Arc<SimSchedule>,
    /// The first broken invariant.
    pub finding: Finding,
}

/// The totals of a running soak.
pub struct Soak {
    simulator: Simulator,
    size: Size,
    spec: Option<&'static MutantSpec>,
    /// Number of executed seeds.
    pub seeds: u64,
    /// Number of seeds that ran twice.
    pub repeated: u64,
    /// Number of seeds that failed.
    pub failed: u64,
    /// The first failure.
    pub failure: Option<Failure>,
    /// The first seed whose second run gave another history.
    pub unsteady: Option<Seed>,
    /// The goals that the seeds reached.
    pub goals: Goals,
}

impl Soak {
    /// Creates a soak. With a mutant, only a detection by its predicted checker is a failure.
    #[must_use]
    pub fn new(size: Size, spec: Option<&'static MutantSpec>) -> Self {
        Self {
            simulator: Simulator::new(),
            size,
            spec,
            seeds: 0,
            repeated: 0,
            failed: 0,
            failure: None,
            unsteady: None,
            goals: Goals::default(),
        }
    }

    /// Runs one seed, twice if `repeat` is set. Returns true if every invariant holds.
    pub fn run(&mut self, seed: Seed, repeat: bool) -> bool {
        let schedule = Arc::new(SimSchedule::generate(seed, self.size));
        let mutant = self.spec.map(|spec| spec.mutant);
        let result = self.simulator.run(&schedule, mutant);
        self.seeds += 1;
        self.goals.add(&result.ops);
        if repeat {
            self.repeated += 1;
            let second = self.simulator.run(&schedule, mutant);
            if result.history().sha256() != second.history().sha256() {
                self.unsteady.get_or_insert(seed);
            }
        }
        let is_failure = |finding: &Finding| {
            let predicted = self.spec.map(|spec| spec.detected_by);
            finding.verdict.is_invalid() && predicted.is_none_or(|name| finding.checker == name)
        };
        let Some(finding) = result.findings().into_iter().find(is_failure) else {
            return true;
        };
        self.failed += 1;
        self.failure.get_or_insert(Failure { seed, schedule, finding });
        false
    }

    /// Returns the exit code. A history that differs has priority over a broken invariant. No seed
    /// at all is the verdict *unknown*.
    pub fn exit_code(&self) -> u8 {
        use crate::checker::{Overall, Property};
        match (&self.unsteady, &self.failure) {
            (Some(_), _) => EXIT_UNSTEADY,
            (None, Some(failure)) if failure.finding.property == Property::Liveness => {
                Overall::Stuck.exit_code()
            }
            (None, Some(_)) => Overall::Unsafe.exit_code(),
            (None, None) if self.seeds == 0 => Overall::Unknown.exit_code(),
            (None, None) => Overall::Pass.exit_code(),
        }
    }
}

/// Exit code if two runs of one seed gave different histories.
pub const EXIT_UNSTEADY: u8 = 5;
