//! CPU time, memory and descriptors of a process, from `/proc`.

use std::fs;
use std::time::Duration;

/// Unit of CPU time in `/proc`. Linux reports 100 ticks per second on all machines.
const TICKS_PER_SECOND: u64 = 100;

/// CPU time of a process and its children, including children that have exited.
pub fn cpu(pid: u32) -> Duration {
    let own = stat(pid).map_or(0, |stat| stat.ticks + stat.ended_children_ticks);
    let living: u64 = children(pid).iter().map(|stat| stat.ticks).sum();
    Duration::from_millis((own + living) * 1_000 / TICKS_PER_SECOND)
}

/// Resident memory of a process in MiB.
pub fn rss_mib(pid: u32) -> f64 {
    status_kib(pid, "VmRSS:") / 1_024.0
}

/// Peak of the resident memory in MiB.
pub fn rss_peak_mib(pid: u32) -> f64 {
    status_kib(pid, "VmHWM:") / 1_024.0
}

/// Number of open files and sockets.
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Maximum number of open files and sockets of this process. `None` if there is no limit.
pub fn descriptors_max() -> Option<usize> {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

struct Stat {
    parent: u32,
    ticks: u64,
    ended_children_ticks: u64,
}

fn children(parent: u32) -> Vec<Stat> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(stat).filter(|stat| stat.parent == parent).collect()
}

fn stat(pid: u32) -> Option<Stat> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may contain any character. The fields after it are
    // numbers.
    let (_, fields) = line.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Stat {
        parent: u32::try_from(number(1)?).ok()?,
        ticks: number(11)? + number(12)?,
        ended_children_ticks: number(13)? + number(14)?,
    })
}

fn status_kib(pid: u32, name: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_this_process_are_read() {
        let own = std::process::id();
        assert!(rss_mib(own) > 0.5 && rss_peak_mib(own) >= rss_mib(own) - 1.0);
        assert!(descriptors(own) >= 3, "standard input, output and error");
        assert!(descriptors_max().is_none_or(|max| max >= descriptors(own)));
        let parent = stat(own).expect("the process exists").parent;
        assert!(!children(parent).is_empty());
    }
}
