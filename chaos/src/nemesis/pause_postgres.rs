//! SIGSTOP of the whole server, or of the postmaster alone: what is connected hangs, or only who connects.
//!
//! Endangers: whoever waits without a bound, the 503 in time, results in hand past the lease, statements
//! that go on when their client has given up. The effect is a statement, or a connect, that waited.

use rand::RngExt;
use serde::{Deserialize, Serialize};
use tokio::time::sleep_until;

use super::draw::spread;
use super::outage::{self, heal, outage_ms, over_in, refused, sit_out};
use super::{Applied, Fault, PlannedFault, Sight, World};
use crate::fault::{Family, Kind, Needs, Target};
use crate::profile::Profile;
use crate::seed::Seed;
use crate::system::{System, SystemError};

pub(super) const KIND: Kind = Kind {
    name: "postgres.pause",
    family: Family::Postgres,
    about: "SIGSTOP of the server, or of the postmaster alone, then SIGCONT",
    needs: Needs::OWN_POSTGRES,
    harm: outage::HARM,
};

/// Of four pauses, this many stop the postmaster alone.
const POSTMASTER_ALONE_OF_4: u32 = 1;

/// SIGSTOP and SIGCONT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PausePostgres {
    /// True when the sessions stand still, too.
    pub all: bool,
    /// How long, in milliseconds.
    pub for_ms: u64,
}

pub(super) fn draw(seed: Seed, profile: &Profile) -> Vec<PlannedFault> {
    spread(seed, profile, &KIND, |draws| {
        let pause = PausePostgres {
            all: draws.random_range(0..4) >= POSTMASTER_ALONE_OF_4,
            for_ms: outage_ms(draws, profile),
        };
        let on = Sight::OpenRequests(profile.workers);
        (on, Fault::PausePostgres(pause))
    })
}

impl PausePostgres {
    pub(super) async fn apply<S: System>(&self, world: &mut World<'_, S>, fault: u64) -> Applied {
        world.own_server()?;
        let begun = world.begin(fault, &KIND, Target::Postgres);
        let observed = if self.all {
            self.of_all(world).await?
        } else {
            let until = over_in(self.for_ms);
            world.own_server()?.pause(false).await?;
            sit_out(world, until).await?
        };
        world.effect(&begun, begun.start_us, Vec::new(), observed);
        world.end(&begun);
        Ok(())
    }

    /// A session that was there before asks, and is answered only afterwards.
    async fn of_all<S: System>(
        &self,
        world: &mut World<'_, S>,
    ) -> Result<Option<String>, SystemError> {
        let own = world.own_server()?;
        let mut watch = own
            .session()
            .await
            .map_err(|error| refused("connecting", &error))?;
        own.pause(true).await?;
        let mut asked = std::pin::pin!(sqlx::query("select 1").execute(&mut watch));
        let waited = tokio::select! {
            biased;
            _ = &mut asked => false,
            () = sleep_until(over_in(self.for_ms)) => true,
        };
        heal(world).await?;
        let for_ms = self.for_ms;
        Ok(waited.then(|| format!("a statement waited for {for_ms} ms")))
    }
}
