//! Descriptors and memory of the worker processes, within limits that follow from the settings.
//!
//! The limits are for the peak of a run. They are generous, because only a leak must exceed them.

use crate::checker::verdict::Examination;
use crate::history::facts::Facts;
use crate::profile::Settings;

/// Descriptors per permit: the connection of an attempt, and a kept connection.
const PER_PERMIT: u64 = 2;
/// Connections of clients of the harness to one worker, if `MAX_API_CONNECTIONS` permits more.
const CLIENTS_MAX: u64 = 512;
/// Descriptors for everything else: the runtime, the log, health requests, clients that are being
/// refused, and further addresses of a name.
const OTHER_DESCRIPTORS: u64 = 128;
/// Memory per permit, in bytes: the largest payload that comes with a claim.
const BYTES_PER_PERMIT: u64 = 256 * 1024;
/// Memory for everything else, in bytes: the program, its buffers and the bodies of posts.
const OTHER_BYTES: u64 = 128 << 20;

/// Examines the samples of all processes, each of which may have this number of database sessions.
/// Returns a note with the peaks, or nothing if there is no sample.
pub(super) fn examine(
    facts: &Facts<'_>,
    sessions_max: u64,
    examination: &mut Examination,
) -> Option<String> {
    let (mut descriptors, mut bytes) = (0, 0);
    for (worker, samples) in &facts.usage {
        let Some(settings) = settings(facts, worker) else {
            continue;
        };
        let descriptors_max = descriptors_max(settings, sessions_max);
        let bytes_max = bytes_max(settings);
        for at in samples {
            examination.saw_one();
            descriptors = descriptors.max(at.op.descriptors);
            bytes = bytes.max(at.op.resident_bytes);
            if at.op.descriptors > descriptors_max {
                let open = at.op.descriptors;
                let what =
                    format!("{worker} has {open} descriptors, the limit is {descriptors_max}");
                examination.broken(what, [at.seq]);
            }
            if at.op.resident_bytes > bytes_max {
                let (used, limit) = (mib(at.op.resident_bytes), mib(bytes_max));
                let what = format!("{worker} uses {used} MiB of memory, the limit is {limit} MiB");
                examination.broken(what, [at.seq]);
            }
        }
    }
    (descriptors > 0).then(|| format!("at most {descriptors} descriptors and {} MiB", mib(bytes)))
}

/// The settings of a worker, by its section.
fn settings<'h>(facts: &Facts<'h>, worker: &str) -> Option<&'h Settings> {
    let section = facts.workers.iter().find(|at| at.op.worker == worker)?.op.section;
    facts.start?.sections.get(&section)
}

fn descriptors_max(settings: &Settings, sessions_max: u64) -> u64 {
    let clients = settings.max_api_connections.map_or(CLIENTS_MAX, u64::from).min(CLIENTS_MAX);
    u64::from(settings.max_in_flight) * PER_PERMIT + clients + sessions_max + OTHER_DESCRIPTORS
}

fn bytes_max(settings: &Settings) -> u64 {
    u64::from(settings.max_in_flight) * BYTES_PER_PERMIT + OTHER_BYTES
}

const fn mib(bytes: u64) -> u64 {
    bytes >> 20
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::resources::CHECKER;
    use crate::checker::story::Story;
    use crate::checker::verdict_line;
    use crate::history::op::{Op, RunStart, Section, Usage, WorkerSeen};

    /// The verdict of a run in which worker 0 has these resources. It has 24 permits.
    fn judged(descriptors: u64, resident_bytes: u64, api_connections: Option<u32>) -> String {
        let (worker, section) = ("w0".to_owned(), Section::Main);
        let seen = WorkerSeen { worker: worker.clone(), section, ready: true, pid: Some(7) };
        let story = Story::accepted()
            .edit(|_, op| {
                if let Op::RunStart(RunStart { sections, .. }) = op
                    && let Some(settings) = sections.get_mut(&Section::Main)
                {
                    settings.max_in_flight = 24;
                    settings.max_api_connections = api_connections;
                }
            })
            .with(1, Op::Worker(seen))
            .with(2, Op::Usage(Usage { worker, descriptors, resident_bytes }));
        verdict_line(&CHECKER, &story.history())
    }

    // A saboteur would need a process, and the fake dispatcher runs inside the harness.
    #[test]
    fn leaked_descriptors_are_invalid() {
        let limit = 24 * PER_PERMIT + 150 + 10 + OTHER_DESCRIPTORS;
        let line = judged(limit, 1 << 20, Some(150));
        assert_eq!(line, format!("valid: 1 examined, at most {limit} descriptors and 1 MiB"));
        let line = judged(limit + 1, 1 << 20, Some(150));
        let what = format!("w0 has {} descriptors, the limit is {limit}", limit + 1);
        assert!(line.starts_with("INVALID") && line.contains(&what), "{line}");
    }

    #[test]
    fn harness_limits_the_clients_if_the_settings_do_not() {
        let limit = 24 * PER_PERMIT + CLIENTS_MAX + 10 + OTHER_DESCRIPTORS;
        for connections in [None, Some(10_000)] {
            let word = |more| judged(limit + more, 1, connections)[..5].to_owned();
            assert_eq!([0, 1].map(word), ["valid", "INVAL"]);
        }
    }

    #[test]
    fn memory_above_the_limit_is_invalid() {
        let limit = 24 * BYTES_PER_PERMIT + OTHER_BYTES;
        assert!(judged(9, limit, None).starts_with("valid"));
        let line = judged(9, limit + (1 << 20), None);
        assert!(line.contains("w0 uses 135 MiB of memory, the limit is 134 MiB"), "{line}");
    }
}
