//! The comparison of all cases: an empty dispatcher and that of the case, loaded in alternation.
//!
//! Each case starts both with new databases on the same server.

use benches::args::Args;
use benches::cost::Meter;
use benches::figures::{Pair, Pairs};
use benches::path::Path;
use benches::scale::Scale;
use benches::stand;
use benches::table::{Goal, Row};
use chaos::postgres::Postgres;
use mock_receiver::{Behavior, Script, script};

/// Events of a load.
const EVENTS: u64 = 20_000;
/// Events of the first load, which opens connections and prepares statements.
const WARM_UP_EVENTS: u64 = 2_000;
const ROUNDS: usize = 7;
const GOAL: Goal = Goal::ratio(0.95, 0.85);
/// Settings of all dispatchers.
const SETTINGS: [(&str, &str); 1] = [("LOG", "warn")];

/// Server, arguments and scale.
pub(crate) struct Growth {
    pub(crate) postgres: Postgres,
    pub(crate) meter: Meter,
    pub(crate) scale: Scale,
    args: Args,
}

/// The two dispatchers of a case.
pub(crate) struct Sides {
    pub(crate) empty: Path,
    pub(crate) grown: Path,
}

impl Growth {
    pub(crate) async fn open(args: &Args) -> anyhow::Result<Self> {
        let scale = Scale::of_process(args.test)?;
        let postgres = stand::postgres().await?;
        let meter = Meter::open(&postgres).await?;
        Ok(Self { postgres, meter, scale, args: args.clone() })
    }

    /// Measures a case if the filter wants it.
    pub(crate) async fn case(
        &self,
        name: &str,
        case: impl Future<Output = anyhow::Result<Vec<Row>>>,
    ) -> anyhow::Result<Vec<Row>> {
        if !self.args.wants(name) {
            return Ok(Vec::new());
        }
        eprintln!("case {name}");
        let rows = case.await?;
        for row in &rows {
            eprintln!("  {}: ratio {:.2}", row.name, row.ratio());
        }
        Ok(rows)
    }

    /// Starts both dispatchers. `settings` and `script` are those of the case.
    pub(crate) async fn sides(
        &self,
        settings: &[(&str, &str)],
        script: &Script,
    ) -> anyhow::Result<Sides> {
        let instant = script::always(Behavior::answer(200));
        let settings = [&SETTINGS, settings].concat();
        Ok(Sides {
            empty: Path::open(&self.postgres, &SETTINGS, &instant).await?,
            grown: Path::open(&self.postgres, &settings, script).await?,
        })
    }

    /// Starts both dispatchers with equal receivers.
    pub(crate) async fn equal_sides(&self) -> anyhow::Result<Sides> {
        self.sides(&[], &script::always(Behavior::answer(200))).await
    }

    /// Loads both sides in alternation and returns the row.
    pub(crate) async fn compare(&self, name: &str, sides: &mut Sides) -> anyhow::Result<Vec<Row>> {
        self.compare_by(name, sides, EVENTS).await
    }

    /// The same with another number of events per load.
    pub(crate) async fn compare_by(
        &self,
        name: &str,
        sides: &mut Sides,
        events: u64,
    ) -> anyhow::Result<Vec<Row>> {
        let events = self.args.load(events, WARM_UP_EVENTS / 10);
        self.pair(sides, events.min(WARM_UP_EVENTS)).await?;
        let mut pairs = Vec::new();
        for _ in 0..self.args.rounds(ROUNDS) {
            pairs.push(self.pair(sides, events).await?);
        }
        Ok(row(name, pairs).into_iter().collect())
    }

    /// One load of each side.
    pub(crate) async fn pair(&self, sides: &mut Sides, events: u64) -> anyhow::Result<Pair> {
        let events = self.args.load(events, events.min(WARM_UP_EVENTS / 10));
        let empty = sides.empty.load(&self.meter, events, false).await?;
        let grown = sides.grown.load(&self.meter, events, false).await?;
        Ok(Pair { ours: grown.rate(), reference: Some(empty.rate()) })
    }
}

/// The row of a case with the goal of all cases.
pub(crate) fn row(name: &str, pairs: Vec<Pair>) -> Option<Row> {
    Pairs { name: name.to_owned(), reference: "empty", goal: Some(GOAL), pairs }.row()
}
