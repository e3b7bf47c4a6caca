//! A reset of a connection to the database between the commit of a statement and its reply.
//!
//! Endangers: accepted events, attempt numbers, duplicates. The worker cannot know the outcome of
//! an insert, a claim or a settle. The effect is the committed statement whose reply was lost.

use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::over_link::{HARM, hold};
use super::strike::{Draw, Observed, Start, Strike};
use super::world::World;
use crate::fault::{Family, Kind, Link, Needs, Target};
use crate::plan::{Condition, PlannedFault};
use crate::proxy::{Control, Statement};
use crate::system::{System, SystemError};

/// The statements whose replies are lost, in turn.
const STATEMENTS: [Statement; 3] = [Statement::Insert, Statement::Claim, Statement::Settle];

/// A lost reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutCommit {
    /// The worker whose connection is reset, from 0.
    pub worker: u32,
    /// The committed statement.
    pub statement: Statement,
}

impl Strike for CutCommit {
    const KIND: Kind = Kind {
        name: "net.cut_commit",
        family: Family::Network,
        about: "a reset between the commit of an insert, a claim or a settle and its reply",
        needs: Needs::LINKS,
        harm: HARM,
    };

    fn draw(draw: &Draw<'_>) -> Vec<PlannedFault<Self>> {
        let mut next = None;
        draw.spread(|draws| {
            // The seed draws the first statement, so that runs with one such fault test all of
            // them.
            let at = next.unwrap_or_else(|| draws.random_range(0..STATEMENTS.len()));
            next = Some((at + 1) % STATEMENTS.len());
            let cut_commit = Self {
                worker: draws.random_range(0..draw.profile.workers),
                statement: STATEMENTS[at],
            };
            (Condition::Time, cut_commit)
        })
    }

    fn target(&self) -> Target {
        Target::Links(vec![Link::ToPostgres(self.worker)])
    }

    async fn strike<S: System>(
        &self,
        world: &mut World<'_, S>,
        _: &Start,
    ) -> Result<Observed, SystemError> {
        // The fault is complete when the reset has been seen.
        let control = Control::CutCommit(self.statement);
        hold(world, Link::ToPostgres(self.worker), control, 0).await
    }

    async fn heal<S: System>(&self, world: &mut World<'_, S>) -> Result<(), SystemError> {
        world.links.heal(Link::ToPostgres(self.worker));
        Ok(())
    }
}
