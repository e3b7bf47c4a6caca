//! The comparison of all cases: an empty dispatcher and that of the case, loaded in alternation.
//!
//! Each case starts both with new databases on the same server.

use benches::args::Args;
use benches::cost::{Load, Meter};
use benches::figures::{Pair, Pairs};
use benches::path::Path;
use benches::pgbench::{Inserts, Pgbench};
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
/// The goal of a load beside one-row inserts of the same bodies.
const GOAL_BESIDE_INSERTS: Goal = Goal::ratio(0.65, 0.55);
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

/// The rows of the cases that succeeded, and the names of the others.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) rows: Vec<Row>,
    pub(crate) failed: Vec<&'static str>,
}

impl Results {
    fn add(&mut self, rows: Vec<Row>) {
        for row in &rows {
            eprintln!("  {}: ratio {:.2}", row.name, row.ratio());
        }
        self.rows.extend(rows);
    }
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
        name: &'static str,
        results: &mut Results,
        case: impl Future<Output = anyhow::Result<Vec<Row>>>,
    ) {
        if !self.args.wants(name) {
            return;
        }
        eprintln!("case {name}");
        match case.await {
            Ok(rows) => results.add(rows),
            Err(error) => {
                eprintln!("  failed: {error:#}");
                results.failed.push(name);
            }
        }
    }

    /// Starts both dispatchers. `settings` and `script` are those of the case.
    pub(crate) async fn sides(
        &self,
        settings: &[(&str, &str)],
        script: &Script,
    ) -> anyhow::Result<Sides> {
        self.sides_with(&[], settings, script).await
    }

    /// The same with settings of both dispatchers.
    pub(crate) async fn sides_with(
        &self,
        both: &[(&str, &str)],
        grown: &[(&str, &str)],
        script: &Script,
    ) -> anyhow::Result<Sides> {
        let instant = script::always(Behavior::answer(200));
        let both = [&SETTINGS, both].concat();
        let grown = [&both, grown].concat();
        Ok(Sides {
            empty: Path::open(&self.postgres, &both, &instant).await?,
            grown: Path::open(&self.postgres, &grown, script).await?,
        })
    }

    /// Starts both dispatchers with equal receivers.
    pub(crate) async fn equal_sides(&self) -> anyhow::Result<Sides> {
        self.sides(&[], &script::always(Behavior::answer(200))).await
    }

    /// Loads both sides in alternation and returns the row.
    pub(crate) async fn compare(&self, name: &str, sides: &mut Sides) -> anyhow::Result<Vec<Row>> {
        self.compare_by(name, sides, EVENTS, None).await
    }

    /// The same with another number of events per load, and beside one-row inserts if there are
    /// some.
    pub(crate) async fn compare_by(
        &self,
        name: &str,
        sides: &mut Sides,
        events: u64,
        inserts: Option<&Pgbench>,
    ) -> anyhow::Result<Vec<Row>> {
        let events = self.args.load(events, WARM_UP_EVENTS / 10);
        self.pair(sides, events.min(WARM_UP_EVENTS)).await?;
        let (mut pairs, mut beside_inserts) = (Vec::new(), Vec::new());
        for _ in 0..self.args.rounds(ROUNDS) {
            let pair = self.pair(sides, events).await?;
            pairs.push(pair);
            if let Some(inserts) = inserts {
                let rate = inserts.run(Inserts::Single, events).await?.rate();
                beside_inserts.push(Pair { ours: pair.ours, reference: Some(rate) });
            }
        }
        let beside_inserts = Pairs {
            name: name.to_owned(),
            reference: Inserts::Single.name(),
            goal: Some(GOAL_BESIDE_INSERTS),
            pairs: beside_inserts,
        };
        Ok([row(name, pairs), beside_inserts.row()].into_iter().flatten().collect())
    }

    /// One load of each side.
    pub(crate) async fn pair(&self, sides: &mut Sides, events: u64) -> anyhow::Result<Pair> {
        let events = self.args.load(events, events.min(WARM_UP_EVENTS / 10));
        let empty = self.load(&mut sides.empty, events).await?;
        let grown = self.load(&mut sides.grown, events).await?;
        Ok(Pair { ours: grown.rate(), reference: Some(empty.rate()) })
    }

    /// One load over new connections: the dispatcher closes those without a request for 30 s.
    async fn load(&self, path: &mut Path, events: u64) -> anyhow::Result<Load> {
        path.connect().await?;
        path.load(&self.meter, events, false).await
    }
}

/// The row of a case with the goal of all cases.
pub(crate) fn row(name: &str, pairs: Vec<Pair>) -> Option<Row> {
    Pairs { name: name.to_owned(), reference: "empty", goal: Some(GOAL), pairs }.row()
}
