//! Builds the history of a chaotic run of any size without running it.
//!
//! Each planned event is posted, attempted by its script, hit by the planned kills, settled and
//! read. The history is as long as that of a real run and passes every checker. So the cost of
//! judging can be measured for sizes that no run reaches.

mod wire;

use std::path::Path;

use chaos::checker::Overall;
use chaos::fault::Target;
use chaos::history::op::*;
use chaos::history::transition::{Census, Counts, Step, Transition};
use chaos::history::{History, sha256_hex};
use chaos::nemesis::KillWorker;
use chaos::nemesis::Schedule;
use chaos::plan::PlannedEvent;
use chaos::profile::{Profile, Settings};
use chaos::report::{Context, Judged};
use chaos::seed::Seed;
use mock_receiver::Behavior;

use wire::Wire;

const MS: u64 = 1_000;
/// Length of the storm per event, as in a run without a given duration.
const STORM_MS_PER_EVENT: u64 = 10;
/// Database clock at the start of the history.
const ZERO_US: i64 = 1_000_000_000_000;
/// Time from a kill to the reclaims and the restart of the worker.
const RECLAIM_US: u64 = 600 * MS;

/// The schedule of a chaotic run with `events` events.
#[must_use]
pub fn schedule(events: u32) -> Schedule {
    let profile = Profile::chaotic().with_events(events);
    let storm_ms = profile.storm_ms.max(u64::from(events) * STORM_MS_PER_EVENT);
    Schedule::generate(Seed::new(1), &profile.with_storm_ms(storm_ms))
}

/// The ops of a run of this schedule, in the order of time.
#[must_use]
pub fn ops(schedule: &Schedule) -> Vec<(u64, Op)> {
    let mut builder = Builder::new(schedule);
    for event in &schedule.events {
        builder.event(event);
    }
    builder.end();
    // A stable sort keeps the order of ops with equal times.
    builder.ops.sort_by_key(|(t, _)| *t);
    builder.ops
}

/// Writes the directory of a run with `events` events and returns the lines of its history.
///
/// # Errors
/// If the directory cannot be written, or a checker rejects the history.
pub fn store(events: u32, dir: &Path) -> anyhow::Result<usize> {
    let schedule = schedule(events);
    let text = schedule.to_text();
    std::fs::write(dir.join("schedule.json"), text)?;
    let history = History::from_ops(ops(&schedule));
    std::fs::write(dir.join("history.jsonl"), history.to_jsonl())?;
    let lines = history.entries().len();
    let judged = Judged::new(schedule, history);
    anyhow::ensure!(judged.overall == Overall::Pass, "{}", judged.checks_text());
    judged.write(dir, &Context::default())?;
    Ok(lines)
}

struct Builder<'a> {
    schedule: &'a Schedule,
    main: Settings,
    kills: Vec<Kill>,
    ops: Vec<(u64, Op)>,
    last_us: u64,
    rows: u64,
}

/// The end of a request at the receiver.
struct RequestEnd {
    status: Option<u16>,
    how: &'static str,
}

struct Kill {
    at_us: u64,
    worker: u64,
    hit: Vec<String>,
}

/// An event between its post and its end.
struct Row<'a> {
    event: &'a PlannedEvent,
    id: String,
    counts: Counts,
    attempts: Vec<AttemptSeen>,
}

impl<'a> Builder<'a> {
    fn new(schedule: &'a Schedule) -> Builder<'a> {
        let workers = u64::from(schedule.profile.workers);
        let kills = (0..).zip(&schedule.faults).map(|(number, fault)| Kill {
            at_us: (schedule.profile.baseline_ms + fault.trigger.at_ms) * MS,
            worker: number % workers,
            hit: Vec::new(),
        });
        let mut builder = Builder {
            schedule,
            main: schedule.main_settings(),
            kills: kills.collect(),
            ops: Vec::new(),
            last_us: storm_end_us(schedule),
            rows: 0,
        };
        builder.start();
        builder
    }

    fn start(&mut self) {
        let schedule = self.schedule;
        self.ops.push((0, Op::RunStart(schedule.run_start())));
        let profile = &schedule.profile;
        self.phase(1, Phase::Baseline, None);
        self.phase(profile.baseline_ms * MS + 1, Phase::Storm, None);
    }

    fn event(&mut self, event: &PlannedEvent) {
        let posted_us = event.at_ms * MS + 2;
        let id = format!("01a2b3c4-0000-7000-8000-{:012x}", event.ordinal);
        let invoke = Invoke {
            op: event.ordinal + 1,
            ordinal: event.ordinal,
            section: event.section,
            key: event.key.clone(),
            sha256: sha256_hex(event.payload.as_bytes()),
            bytes: event.payload.len(),
            target: target(event),
            via: "w0".into(),
            cut_at: None,
        };
        self.ops.push((posted_us, Op::IngestInvoke(invoke)));
        let mut row = Row {
            event,
            id: id.clone(),
            counts: Counts { status: "pending".into(), ..Counts::default() },
            attempts: Vec::new(),
        };
        let accepted_us = posted_us + 2 * MS;
        self.step(accepted_us, Step::Accept, &row, Some(accepted_us));
        let ok = Acknowledged { op: event.ordinal + 1, ordinal: event.ordinal, id };
        self.ops.push((accepted_us + MS, Op::IngestOk(ok)));
        self.rows += 1;
        let mut due_us = accepted_us + MS;
        while row.counts.status == "pending" {
            due_us = self.attempt(&mut row, due_us);
        }
        self.last_us = self.last_us.max(due_us);
        let state = State {
            ordinal: event.ordinal,
            id: row.id,
            http: 200,
            status: Some(row.counts.status),
            reason: None,
            attempt_count: Some(row.counts.attempt_count),
            attempts: row.attempts,
        };
        // A final read. `end` sets its time.
        self.ops.push((u64::MAX, Op::State(state)));
    }

    /// Adds one attempt from claim to settle or reclaim. Returns the due time of the next attempt.
    fn attempt(&mut self, row: &mut Row<'_>, due_us: u64) -> u64 {
        row.counts.attempt_count += 1;
        let number = row.counts.attempt_count;
        let behavior = row.event.script.get(number as usize - 1);
        let behavior = behavior.cloned().unwrap_or_else(|| Behavior::answer(200));
        let settings = match row.event.section {
            Section::Main => self.main.clone(),
            Section::Defaults => Settings::defaults(),
        };
        let wire = Wire::of(&behavior, &settings);
        self.step(due_us + MS, Step::Claim, row, None);
        let req = format!("r{}-{}-{number}", row.event.receiver, row.event.ordinal);
        let begin_us = due_us + 2 * MS;
        self.begin(begin_us, row, &req, &behavior);
        let end_us = begin_us + wire.lasts_ms * MS + 200;
        if let Some(killed_us) = self.killed(row, begin_us, end_us, &req) {
            self.end_request(
                killed_us + 500,
                row,
                &req,
                RequestEnd { status: None, how: PEER_CLOSED },
            );
            row.counts.abandon_count += 1;
            let reclaim_us = killed_us + RECLAIM_US;
            row.seen(number, "abandoned", None);
            let first = row.counts.abandon_count == 1;
            let delay_ms =
                if first { 0 } else { settings.delay_ms_max(row.counts.abandon_count - 1) };
            let next_us = reclaim_us + delay_ms * MS;
            self.step(reclaim_us, Step::Reclaim, row, Some(next_us));
            return next_us;
        }
        self.end_request(end_us, row, &req, RequestEnd { status: wire.status, how: wire.how });
        row.counts.abandon_count = 0;
        let settle_us = end_us + MS;
        row.seen(number, wire.outcome, wire.reported_status);
        if wire.outcome == "delivered" {
            row.counts.status = "delivered".into();
            self.step(settle_us, Step::Settle, row, None);
            return settle_us;
        }
        row.counts.failure_count += 1;
        let least_ms = settings.delay_ms(row.counts.failure_count);
        let delay_ms = wire.retry_after_ms.unwrap_or(0).max(least_ms + least_ms / 10);
        let next_us = settle_us + delay_ms * MS;
        self.step(settle_us, Step::Settle, row, Some(next_us));
        next_us
    }

    /// Returns the time of the kill that hits the request, and adds the request to that kill.
    fn killed(&mut self, row: &Row<'_>, begin_us: u64, end_us: u64, req: &str) -> Option<u64> {
        if row.event.section == Section::Defaults {
            return None;
        }
        let workers = u64::from(self.schedule.profile.workers);
        let worker = (row.event.ordinal + u64::from(row.counts.attempt_count)) % workers;
        // A request that has just started does not count as hit.
        let open = begin_us + MS..end_us;
        let mut kills = self.kills.iter_mut();
        let kill = kills.find(|kill| kill.worker == worker && open.contains(&kill.at_us))?;
        kill.hit.push(req.to_owned());
        Some(kill.at_us)
    }

    fn begin(&mut self, t: u64, row: &Row<'_>, req: &str, behavior: &Behavior) {
        let begin = RecvBegin {
            req: req.to_owned(),
            ordinal: Some(row.event.ordinal),
            id: Some(row.id.clone()),
            attempt: Some(row.counts.attempt_count),
            target: target(row.event),
            sha256: sha256_hex(row.event.payload.as_bytes()),
            sig: SIG_VALID.into(),
            scripted: Some(behavior.into()),
        };
        self.ops.push((t, Op::RecvBegin(begin)));
    }

    fn end_request(&mut self, t: u64, row: &Row<'_>, req: &str, ended: RequestEnd) {
        let end = RecvEnd {
            req: req.to_owned(),
            ordinal: Some(row.event.ordinal),
            status: ended.status,
            how: ended.how.to_owned(),
        };
        self.ops.push((t, Op::RecvEnd(end)));
    }

    fn step(&mut self, t: u64, step: Step, row: &Row<'_>, due_us: Option<u64>) {
        let us = |t: u64| ZERO_US + i64::try_from(t).expect("the time fits into an i64");
        let attempt = row.counts.attempt_count;
        let token = Some(format!("{:08x}-{attempt}", row.event.ordinal));
        let ends = step.ends_a_lease();
        let lasts = ends || step == Step::Claim;
        let lease_ms = match row.event.section {
            Section::Main => self.main.lease_ms,
            Section::Defaults => Settings::defaults().lease_ms,
        };
        let outcome = row.attempts.last().map(|seen| seen.outcome.clone());
        // A reclaim reports the lease that it ends.
        let claimed_us = self.claimed_us(step, t);
        let transition = Transition {
            id: row.id.clone(),
            target: (step == Step::Accept).then(|| target(row.event)),
            attempt,
            token: token.clone().filter(|_| lasts),
            held: token.filter(|_| ends),
            holder: lasts.then(|| "0123456789abcdef".into()),
            outcome: outcome.filter(|_| step == Step::Settle),
            now_us: us(t),
            lease_until_us: lasts.then(|| us(claimed_us + lease_ms * MS)),
            due_us: due_us.map(us),
            after: row.counts.clone(),
        };
        self.ops.push((t, Op::of_transition(step, transition)));
    }

    fn claimed_us(&self, step: Step, t: u64) -> u64 {
        if step == Step::Claim {
            return t;
        }
        let claims = self.ops.iter().rev();
        let claim = claims.clone().find(|(_, op)| matches!(op, Op::Claim(_)));
        claim.map_or(t, |(claimed, _)| *claimed)
    }

    fn phase(&mut self, t: u64, phase: Phase, bound_us: Option<u64>) {
        self.ops.push((t, Op::Phase(PhaseBegin { phase, bound_us })));
    }

    /// Adds the kills, the phases and the times of the final reads.
    fn end(&mut self) {
        for (kill, fault) in std::mem::take(&mut self.kills).into_iter().zip(1..) {
            let worker = u32::try_from(kill.worker).expect("a plan has few workers");
            let target = Target::Worker(worker);
            let start = FaultStart {
                why: "as planned".into(),
                open: kill.hit.clone(),
                ..FaultStart::new(fault, &KillWorker::KIND, target)
            };
            let effect =
                FaultEffect { fault, effective_us: kill.at_us, hit: kill.hit, observed: None };
            self.ops.push((kill.at_us, Op::FaultStart(start)));
            self.ops.push((kill.at_us + 2 * MS, Op::FaultEffect(effect)));
            self.ops.push((kill.at_us + RECLAIM_US, Op::FaultEnd(FaultEnd { fault })));
        }
        let end_us = self.last_us + 100 * MS;
        for (t, _) in &mut self.ops {
            *t = (*t).min(end_us);
        }
        let heal_us = storm_end_us(self.schedule);
        self.phase(heal_us, Phase::Heal, None);
        self.phase(heal_us + 1, Phase::Drain, Some(600_000 * MS));
        self.phase(end_us - 1, Phase::FinalReads, None);
        let census = Census { rows: self.rows, delivered: self.rows, ..Census::default() };
        self.ops.push((end_us, Op::Census(census)));
        self.phase(end_us, Phase::End, None);
    }
}

impl Row<'_> {
    fn seen(&mut self, number: u32, outcome: &str, status_code: Option<u16>) {
        self.attempts.push(AttemptSeen { number, outcome: outcome.to_owned(), status_code });
    }
}

fn target(event: &PlannedEvent) -> String {
    format!("http://127.0.0.1:{}/webhook/{}", 40_000 + event.receiver, event.ordinal)
}

fn storm_end_us(schedule: &Schedule) -> u64 {
    (schedule.profile.baseline_ms + schedule.profile.storm_ms) * MS
}
