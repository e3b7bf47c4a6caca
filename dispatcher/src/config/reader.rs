//! Reads settings one by one and collects the invalid ones, so that one start reports all of them.

use std::fmt;
use std::time::Duration;

use super::settings::{Limits, setting};

/// A method that meets an invalid setting records it and returns a substitute. [`Reader::finish`]
/// then discards the result.
pub(super) struct Reader<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    errors: Vec<SettingError>,
}

/// One invalid setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SettingError {
    /// Name of the environment variable.
    pub name: &'static str,
    /// Variable, reason and fix in one sentence. Contains no secret.
    pub message: String,
}

/// All invalid settings, one per line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError(Vec<SettingError>);

impl ConfigError {
    /// At most one error per setting, in the order in which they were read.
    pub fn errors(&self) -> &[SettingError] {
        &self.0
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid settings (`dispatcher --help` lists all settings):")?;
        self.0.iter().try_for_each(|error| write!(f, "\n  {error}"))
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { lookup, errors: Vec::new() }
    }

    /// Returns the result if every setting was valid.
    pub(super) fn finish<T>(self, config: T) -> Result<T, ConfigError> {
        if self.errors.is_empty() { Ok(config) } else { Err(ConfigError(self.errors)) }
    }

    /// Records an invalid setting. `message` is the whole sentence. Only the first error of each
    /// setting is kept.
    pub(super) fn invalid(&mut self, name: &str, message: String) {
        let name = setting(name).name;
        if self.errors.iter().all(|error| error.name != name) {
            self.errors.push(SettingError { name, message });
        }
    }

    /// Returns the text of a setting, or its default. Files and secrets often end with a line
    /// break, so the white space around the text does not belong to it.
    pub(super) fn text(&self, name: &str) -> String {
        let given = self.given(name);
        given.unwrap_or_else(|| setting(name).default.to_owned())
    }

    /// Returns the text of a setting if the variable is set.
    pub(super) fn given(&self, name: &str) -> Option<String> {
        (self.lookup)(name).map(|text| text.trim().to_owned())
    }

    /// Parses a setting. The error completes the sentence "NAME=value …".
    pub(super) fn parsed<T, E: fmt::Display>(
        &mut self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> T {
        let shown = format!("{name}={:?}", self.text(name));
        self.parsed_or_default(name, &shown, parse)
    }

    /// Parses a setting whose value may contain a secret. The error completes the sentence "NAME …"
    /// and must not repeat the value.
    pub(super) fn secret<T, E: fmt::Display>(
        &mut self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> T {
        self.parsed_or_default(name, name, parse)
    }

    fn parsed_or_default<T, E: fmt::Display>(
        &mut self,
        name: &str,
        shown: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> T {
        parse(&self.text(name)).unwrap_or_else(|error| {
            self.invalid(name, format!("{shown} {error}"));
            let default = parse(setting(name).default);
            default.unwrap_or_else(|error| panic!("the default of {name} {error}"))
        })
    }

    /// Returns a duration in seconds. An invalid one counts as zero, so that it does not refuse
    /// settings that must not be longer.
    pub(super) fn seconds(&mut self, name: &str) -> Duration {
        let Limits::Seconds(least, most) = setting(name).limits else {
            panic!("the limits of {name} are not those of a duration")
        };
        let text = self.text(name);
        let value = text.parse::<f64>().ok().filter(|value| (least..=most).contains(value));
        if value.is_none() {
            self.invalid(
                name,
                format!(
                    "{name}={text:?} is invalid: set seconds from {least} to {most}, \
                     decimals allowed"
                ),
            );
        }
        value.map_or(Duration::ZERO, Duration::from_secs_f64)
    }

    /// Returns a duration in seconds whose default depends on another setting.
    pub(super) fn seconds_or(&mut self, name: &str, default: Duration) -> Duration {
        if self.given(name).is_some() { self.seconds(name) } else { default }
    }

    /// Returns a whole number: a count or a size in bytes.
    pub(super) fn count(&mut self, name: &str) -> usize {
        let (Limits::Count(least, most) | Limits::Bytes(least, most)) = setting(name).limits else {
            panic!("the limits of {name} are not those of a whole number")
        };
        let value = self.parsed(name, |text| {
            let value = text.parse::<u64>().ok().filter(|value| (least..=most).contains(value));
            value.ok_or_else(|| format!("is invalid: set a whole number from {least} to {most}"))
        });
        usize::try_from(value).unwrap_or(usize::MAX)
    }

    /// Returns a whole number whose limits fit 32 bits.
    pub(super) fn small_count(&mut self, name: &str) -> u32 {
        u32::try_from(self.count(name)).unwrap_or(u32::MAX)
    }

    /// Returns a boolean: `true`, `false`, `1` or `0`.
    pub(super) fn flag(&mut self, name: &str) -> bool {
        self.parsed(name, |text| match text {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err("is invalid: set true or false"),
        })
    }
}
