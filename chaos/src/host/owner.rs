//! Identity of the harness process that started a container.
//!
//! A process id alone is not sufficient: the kernel reuses ids, and the harness may run in another
//! boot or process namespace than the one that wrote the label.

/// A process, with the data that distinguishes it from a later process with the same id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    /// Boot id and process namespace in which `pid` is valid.
    namespace: String,
    pid: u32,
    /// Start time in clock ticks since boot. Empty if it cannot be read.
    started: String,
}

impl Owner {
    pub(super) fn this_process() -> Self {
        let pid = std::process::id();
        Self { namespace: namespace(), pid, started: start_of(pid).unwrap_or_default() }
    }

    /// The value of the container label. [`Owner::parse`] reads it.
    pub(super) fn label(&self) -> String {
        format!("{}/{}/{}", self.namespace, self.pid, self.started)
    }

    pub(super) fn parse(label: &str) -> Option<Self> {
        let mut parts = label.split('/');
        let (namespace, pid, started) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self {
            namespace: namespace.to_owned(),
            pid: pid.parse().ok()?,
            started: started.to_owned(),
        })
    }

    /// Returns true if the process has exited. Returns false if the process belongs to another boot
    /// or namespace, because this process cannot see it.
    pub(super) fn has_exited(&self) -> bool {
        !self.started.is_empty()
            && self.namespace == namespace()
            && start_of(self.pid).as_deref() != Some(self.started.as_str())
    }
}

fn namespace() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let processes = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    format!("{}-{}", boot.trim(), processes.display())
}

/// Returns the start time of a process in clock ticks since boot.
fn start_of(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The time is field 22. Field 2, the program's name, may contain spaces and ends with the last
    // closing bracket of the line.
    stat.rsplit(')').next()?.split_whitespace().nth(19).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_dead_process_of_this_boot_has_exited() {
        let this = Owner::this_process();
        assert_eq!(Owner::parse(&this.label()), Some(this.clone()));
        assert!(!this.has_exited());

        let reused = Owner { started: "1".into(), ..this.clone() };
        assert!(reused.has_exited(), "the kernel has reused the process id");
        let elsewhere = Owner { namespace: "another boot".into(), ..reused };
        assert!(!elsewhere.has_exited());
        assert_eq!(Owner::parse("not a label"), None);
    }
}
