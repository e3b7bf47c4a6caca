//! A connection to the database that is reset after the commit of a statement and before its reply.
//!
//! Endangers: what was accepted, attempt numbers, duplicates: the worker cannot know what became of an
//! insert, a claim or a settle. The effect is the statement that was committed and whose reply was cut.

use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::draw::spread;
use super::over_link::{self, hold};
use super::{Applied, Fault, PlannedFault, Sight, World};
use crate::fault::{Family, Kind, Link, Needs};
use crate::profile::Profile;
use crate::proxy::{Control, Statement};
use crate::seed::Seed;
use crate::system::System;

pub(super) const KIND: Kind = Kind {
    name: "net.cut_commit",
    family: Family::Network,
    about: "a reset between the commit of an insert, a claim or a settle and its reply",
    needs: Needs::LINKS,
    harm: over_link::HARM,
};

/// The statements whose replies are cut, in turn.
const STATEMENTS: [Statement; 3] = [Statement::Insert, Statement::Claim, Statement::Settle];

/// A lost reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutCommit {
    /// Whose, from 0.
    pub worker: u32,
    /// To what.
    pub statement: Statement,
}

pub(super) fn draw(seed: Seed, profile: &Profile) -> Vec<PlannedFault> {
    let mut turn = None;
    spread(seed, profile, &KIND, |draws| {
        // The seed draws the first, so that a run with one of them tests each of them now and then.
        let at = turn.unwrap_or_else(|| draws.random_range(0..STATEMENTS.len()));
        turn = Some((at + 1) % STATEMENTS.len());
        let cut_commit = CutCommit {
            worker: draws.random_range(0..profile.workers),
            statement: STATEMENTS[at],
        };
        (Sight::Time, Fault::CutCommit(cut_commit))
    })
}

impl CutCommit {
    pub(super) async fn apply<S: System>(&self, world: &World<'_, S>, fault: u64) -> Applied {
        let control = Control::CutCommit(self.statement);
        let link = Link::ToPostgres(self.worker);
        // It is done once it is seen: there is nothing to hold.
        hold(world, (fault, &KIND), (link, control), 0).await
    }

    pub(super) fn heal<S>(&self, world: &World<'_, S>) -> Applied {
        world.links.heal(Link::ToPostgres(self.worker));
        Ok(())
    }
}
