//! A backlog that the worker alone delivers, while no event is accepted, beside requests without a
//! dispatcher.

use benches::backlog;
use benches::figures::{Pair, Pairs, rate};
use benches::http_pair;
use benches::path::{DRAIN_MAX, TARGETS};
use benches::stand::{self, Stand};
use benches::table::{Goal, Row};
use mock_receiver::{Behavior, Journal, script};
use tokio::time::Instant;

use crate::bench::Bench;

const NAME: &str = "backlog";
const EVENTS: usize = 100_000;
const ROUNDS: usize = 3;
const GOAL: Goal = Goal::value(18_000.0, 16_000.0);

pub(crate) fn measure(bench: &Bench) -> anyhow::Result<Option<Row>> {
    if !bench.args.wants(NAME) {
        return Ok(None);
    }
    let events = bench.args.load(EVENTS, 1_000);
    eprintln!("delivering a backlog of {events} events by the worker alone");
    let mut pairs = Pairs {
        name: format!("backlog of {events}, worker alone"),
        reference: http_pair::NAME,
        goal: Some(GOAL),
        pairs: Vec::new(),
    };
    bench.runtime.block_on(async {
        let settings = [("LOG", "warn")];
        let stand = Stand::start_as(&bench.postgres, &["worker"], &settings).await?;
        let answer = script::always(Behavior::answer(200));
        let receivers = stand::receivers(TARGETS, &answer, &Journal::disabled()).await?;
        let targets: Vec<_> = receivers.iter().map(stand::url).collect();
        for _ in 0..bench.args.rounds(ROUNDS) {
            // The events are stored in one commit, so none is delivered before the time begins.
            backlog::fill_all(&stand.pool, &targets, 0..events).await?;
            let began = Instant::now();
            stand.all_ended(DRAIN_MAX).await?;
            let ours = rate(events as u64, began.elapsed());
            let reference = Some(bench.http_pair.run(events as u64).await?);
            pairs.pairs.push(Pair { ours, reference });
        }
        anyhow::Ok(())
    })?;
    Ok(pairs.row())
}
