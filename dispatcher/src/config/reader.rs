//! Reads settings one by one and collects what is wrong with them, so that one start names every problem.

use std::fmt;
use std::time::Duration;

use super::settings::{Limits, setting};

/// Reads through a lookup, by the table of settings.
pub struct Reader<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    problems: Vec<Problem>,
}

/// One setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The environment variable.
    pub name: &'static str,
    /// What is wrong and what to write instead.
    pub fix: String,
}

/// Everything that is wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError(Vec<Problem>);

impl ConfigError {
    /// One entry a setting.
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "settings that cannot be used (`dispatcher --help` lists them all):"
        )?;
        self.0
            .iter()
            .try_for_each(|problem| write!(f, "\n  {} {}", problem.name, problem.fix))
    }
}

impl<'a> Reader<'a> {
    /// A reader that has met no problem yet.
    pub fn new(lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            lookup,
            problems: Vec::new(),
        }
    }

    /// What was read, if nothing was wrong with it.
    ///
    /// # Errors
    /// The problems that were met.
    pub fn finish<T>(self, read: Option<T>) -> Result<T, ConfigError> {
        match read {
            Some(read) if self.problems.is_empty() => Ok(read),
            _ => Err(ConfigError(self.problems)),
        }
    }

    /// Notes a problem; only the first of each setting is kept.
    pub fn problem(&mut self, name: &str, fix: String) {
        let name = setting(name).name;
        if self.problems.iter().all(|problem| problem.name != name) {
            self.problems.push(Problem { name, fix });
        }
    }

    /// The text of a setting, or its default.
    pub fn text(&self, name: &str) -> String {
        (self.lookup)(name).unwrap_or_else(|| setting(name).default.to_owned())
    }

    /// A setting of its own form; `None` once the problem is noted.
    pub fn parsed<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        match parse(&self.text(name)) {
            Ok(value) => Some(value),
            Err(fix) => {
                self.problem(name, fix);
                None
            }
        }
    }

    /// A setting that may be absent; empty counts as absent, as compose files write it.
    pub fn optional<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(name);
        if text.is_empty() {
            None
        } else {
            self.parsed(name, parse)
        }
    }

    /// A length of time.
    pub fn seconds(&mut self, name: &str) -> Duration {
        self.number(name, None)
            .map_or(Duration::ZERO, Duration::from_secs_f64)
    }

    /// A length of time whose default follows from another setting.
    pub fn seconds_or(&mut self, name: &str, derived: Duration) -> Duration {
        self.number(name, Some(derived.as_secs_f64()))
            .map_or(derived, Duration::from_secs_f64)
    }

    /// A count or a size.
    pub fn count(&mut self, name: &str) -> usize {
        let (Limits::Count(least, most) | Limits::Bytes(least, most)) = setting(name).limits else {
            panic!("the limits of {name} are not those of a whole number")
        };
        let text = self.text(name);
        let value = text
            .trim()
            .parse::<u64>()
            .ok()
            .filter(|value| (least..=most).contains(value));
        if value.is_none() {
            self.problem(
                name,
                format!("is {text:?}; write a whole number from {least} to {most}"),
            );
        }
        usize::try_from(value.unwrap_or(most)).unwrap_or(usize::MAX)
    }

    /// A count that fits 32 bits.
    pub fn small_count(&mut self, name: &str) -> u32 {
        u32::try_from(self.count(name)).unwrap_or(u32::MAX)
    }

    /// A yes or no.
    pub fn flag(&mut self, name: &str) -> bool {
        let parse = |text: &str| match text.trim() {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            other => Err(format!("is {other:?}; write true or false")),
        };
        self.parsed(name, parse).unwrap_or(false)
    }

    fn number(&mut self, name: &str, derived: Option<f64>) -> Option<f64> {
        let Limits::Seconds(least, most) = setting(name).limits else {
            panic!("{name} is no time")
        };
        let text = match ((self.lookup)(name), derived) {
            (Some(text), _) => text,
            (None, Some(derived)) => return Some(derived),
            (None, None) => setting(name).default.to_owned(),
        };
        let value = text
            .trim()
            .parse::<f64>()
            .ok()
            .filter(|value| (least..=most).contains(value));
        if value.is_none() {
            self.problem(
                name,
                format!("is {text:?}; write seconds from {least} to {most}, decimals allowed"),
            );
        }
        value
    }
}
