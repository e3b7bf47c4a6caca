//! Reads the settings from the environment, checks their limits, and reports all problems together.
//!
//! The values come through a lookup closure, so a test needs no environment.

pub mod settings;

use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::demo::Demo;
use crate::verify::Secrets;

/// Settings of the binary, all within their limits.
#[derive(Clone, Debug)]
pub struct Config {
    /// `BIND`.
    pub bind: SocketAddr,
    /// `WEBHOOK_SECRET`.
    pub secrets: Secrets,
    /// `FAILURE_RATE`, `MAX_DELAY_SEC`, `HANG_RATE`, `HANG_MAX_SECONDS`, `SEED`.
    pub demo: Demo,
    /// `RECEIPTS_MAX`.
    pub receipts_max: usize,
}

/// All invalid settings, in the order in which they were read. Each line names the variable and
/// an accepted value.
#[derive(Debug, thiserror::Error)]
pub struct ConfigError {
    problems: Vec<String>,
}

impl Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("invalid settings (`mock-receiver --help` lists all settings):")?;
        self.problems.iter().try_for_each(|problem| write!(formatter, "\n  {problem}"))
    }
}

impl Config {
    /// Reads every setting. `seed_random` is the seed if `SEED` is not set.
    ///
    /// # Errors
    /// Lists every setting outside its limits.
    pub fn from_lookup(
        lookup: impl Fn(&str) -> Option<String>,
        seed_random: u64,
    ) -> Result<Self, ConfigError> {
        let mut reader = Reader { lookup, problems: Vec::new() };
        let bind = reader.parse("BIND", "set an address and port like 127.0.0.1:8080");
        let secrets = reader.parse(
            "WEBHOOK_SECRET",
            "set the secret of the dispatcher, or several separated by single commas",
        );
        let failure_rate = reader.number("FAILURE_RATE", 0.0..=1.0);
        let delay_seconds = reader.number("MAX_DELAY_SEC", 0.0..=3600.0);
        let hang_rate = reader.number("HANG_RATE", 0.0..=1.0);
        let hang_seconds = reader.number("HANG_MAX_SECONDS", 0.0..=3600.0);
        let seed = reader.seed(seed_random);
        let receipts_max = reader.number("RECEIPTS_MAX", 1_usize..=1_000_000);
        match (bind, secrets) {
            (Some(bind), Some(secrets)) if reader.problems.is_empty() => {
                let demo = Demo {
                    seed,
                    failure_rate: failure_rate.unwrap_or_default(),
                    delay_ms_max: milliseconds(delay_seconds.unwrap_or_default()),
                    hang_rate: hang_rate.unwrap_or_default(),
                    hang_ms_max: milliseconds(hang_seconds.unwrap_or_default()),
                };
                let receipts_max = receipts_max.unwrap_or_default();
                Ok(Self { bind, secrets, demo, receipts_max })
            }
            _ => Err(ConfigError { problems: reader.problems }),
        }
    }
}

/// Collects the problems. A method that returns `None` or a default value has added one.
struct Reader<L> {
    lookup: L,
    problems: Vec<String>,
}

impl<L: Fn(&str) -> Option<String>> Reader<L> {
    fn text(&self, name: &str) -> String {
        (self.lookup)(name).unwrap_or_else(|| settings::default(name).to_owned())
    }

    /// The problem does not repeat the value, because it may contain a secret.
    fn parse<T: FromStr<Err: Display>>(&mut self, name: &str, fix: &str) -> Option<T> {
        let parsed = self.text(name).trim().parse::<T>();
        self.keep(parsed.map_err(|error| format!("{name}: {error}: {fix}")))
    }

    fn number<T>(&mut self, name: &str, limits: RangeInclusive<T>) -> Option<T>
    where
        T: FromStr + PartialOrd + Display,
    {
        let text = self.text(name);
        let number = text.trim().parse().ok().filter(|number| limits.contains(number));
        let (least, most) = (limits.start(), limits.end());
        self.keep(number.ok_or_else(|| {
            format!("{name}={text:?} is invalid: set a number from {least} to {most}")
        }))
    }

    fn seed(&mut self, random: u64) -> u64 {
        let text = self.text("SEED");
        let seed = match text.trim() {
            // Compose passes a variable that is not set as an empty text.
            "" => Some(random),
            text => match text.strip_prefix("0x") {
                Some(digits) => u64::from_str_radix(digits, 16).ok(),
                None => text.parse().ok(),
            },
        };
        let problem = || {
            format!(
                "SEED={text:?} is invalid: set a 64-bit number, decimal or hexadecimal after 0x"
            )
        };
        self.keep(seed.ok_or_else(problem)).unwrap_or_default()
    }

    fn keep<T>(&mut self, value: Result<T, String>) -> Option<T> {
        value.map_err(|problem| self.problems.push(problem)).ok()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "both settings are limited to 3600 seconds"
)]
fn milliseconds(seconds: f64) -> u64 {
    (seconds * 1000.0).round() as u64
}
