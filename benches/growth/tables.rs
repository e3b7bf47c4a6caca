//! Large tables: finished events with their attempts, and events that become due later.

use benches::backlog;
use benches::table::Row;
use sqlx::PgPool;

use crate::compare::Growth;

const FINISHED: usize = 10_000_000;
const PENDING: usize = 1_000_000;
/// Rows per commit of the fill.
const COMMIT_ROWS: usize = 500_000;
/// A target that gets no request.
const TARGET: &str = "http://127.0.0.1:9/webhook";

// The ids of 30 days, in the order of time, as from the API.
const FILL: &str = "
with stored as (
    insert into webhook_events
        (id, target_url, target_given, payload, status, round, attempt_count, failure_count,
         abandon_count, created_at, finished_at)
    select (lpad(to_hex((extract(epoch from now() - interval '30 days') * 1000)::bigint + g * 250), 12, '0')
            || '7' || lpad(to_hex(g % 4096), 3, '0') || '8' || substr(md5(random()::text), 1, 15))::uuid,
        $3, true, convert_to('{\"fill\":\"' || repeat('x', 289) || '\"}', 'UTF8'),
        'delivered', 0, 1, 0, 0, now() - interval '30 days' + g * interval '250 ms',
        now() - interval '30 days' + g * interval '250 ms'
    from generate_series($1, $2) g
    returning id, created_at
)
insert into delivery_attempts (event_id, number, token, started_at, duration_ms, outcome, status_code, response)
select id, 1, gen_random_uuid(), created_at, 1, 'delivered', 200, convert_to('{\"received\":true}', 'UTF8')
from stored";

pub(crate) async fn finished(growth: &Growth) -> anyhow::Result<Vec<Row>> {
    let count = growth.scale.count(FINISHED);
    let mut sides = growth.equal_sides().await?;
    let pool = &sides.grown.stand.pool;
    let mut filled = 0;
    while filled < count {
        let until = (filled + COMMIT_ROWS).min(count);
        fill_finished(pool, filled, until).await?;
        filled = until;
        eprintln!("  {filled} of {count} finished events stored");
    }
    for table in ["webhook_events", "delivery_attempts"] {
        backlog::settle_down(pool, table).await?;
    }
    growth.compare(&format!("{count} finished events"), &mut sides).await
}

async fn fill_finished(pool: &PgPool, from: usize, until: usize) -> anyhow::Result<()> {
    let fill = sqlx::query(FILL).bind(i64::try_from(from)?).bind(i64::try_from(until)? - 1);
    fill.bind(TARGET).execute(pool).await?;
    Ok(())
}

pub(crate) async fn pending(growth: &Growth) -> anyhow::Result<Vec<Row>> {
    let count = growth.scale.count(PENDING);
    let mut sides = growth.equal_sides().await?;
    let pool = &sides.grown.stand.pool;
    eprintln!("  storing {count} events that become due in a day");
    backlog::fill_future(pool, TARGET, 0..count).await?;
    backlog::settle_down(pool, "webhook_events").await?;
    growth.compare(&format!("{count} pending events, due in a day"), &mut sides).await
}
