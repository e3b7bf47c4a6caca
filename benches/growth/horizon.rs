//! A transaction that stays open for ten minutes and keeps all dead rows, while events flow.
//!
//! The horizon of a transaction concerns only its own database, so the empty side is spared.

use std::time::Duration;

use benches::scale::duration_text;
use benches::table::Row;
use sqlx::Connection;
use tokio::time::Instant;

use crate::compare::{Growth, row};

const HELD: Duration = Duration::from_secs(600);
const EVENTS: u64 = 20_000;
/// Takes a snapshot, which stays until the transaction ends.
const HOLD: &str = "begin isolation level repeatable read; select 1 from webhook_events limit 1";
/// Number of pairs per line of progress, and of the last pairs in a row of their own.
const PAIRS: usize = 10;

pub(crate) async fn held(growth: &Growth) -> anyhow::Result<Vec<Row>> {
    let held = growth.scale.time(HELD);
    let name = format!("a transaction held for {}", duration_text(held));
    let mut sides = growth.equal_sides().await?;
    let options = sides.grown.stand.pool.connect_options();
    let mut holder = sqlx::PgConnection::connect_with(&options).await?;
    growth.pair(&mut sides, EVENTS).await?;
    sqlx::raw_sql(HOLD).execute(&mut holder).await?;
    let (began, mut pairs) = (Instant::now(), Vec::new());
    while began.elapsed() < held || pairs.is_empty() {
        pairs.push(growth.pair(&mut sides, EVENTS).await?);
        if pairs.len().is_multiple_of(PAIRS) {
            let seconds = began.elapsed().as_secs();
            let ratio = row("", pairs[pairs.len() - PAIRS..].to_vec()).map(|row| row.ratio());
            eprintln!("  held for {seconds} s, ratio of the last {PAIRS} pairs: {ratio:.2?}");
        }
    }
    holder.close().await?;
    let last = pairs[pairs.len().saturating_sub(PAIRS)..].to_vec();
    let last_name = format!("{name}: its last {} pairs", last.len());
    Ok([row(&name, pairs), row(&last_name, last)].into_iter().flatten().collect())
}
