//! The settings of the binary: environment only, each with a default and limits, and every
//! problem reported at once.
//!
//! They are read through a lookup, so that a test needs no environment.

use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::demo::Demo;
use crate::verify::Secrets;

/// Every setting: name, default, limits, meaning. The help text and the checks read it.
const SETTINGS: [Setting; 8] = [
    Setting("BIND", "127.0.0.1:8080", "address:port", "where it listens"),
    Setting(
        "WEBHOOK_SECRET",
        "change-me-in-production",
        "whsec_<base64> or text",
        SECRET_MEANING,
    ),
    Setting(
        "FAILURE_RATE",
        "0.7",
        "0 to 1",
        "the share of answers that are failures",
    ),
    Setting(
        "MAX_DELAY_SEC",
        "5",
        "0 to 3600",
        "answers come after 0 to this many seconds",
    ),
    Setting(
        "HANG_RATE",
        "0.08",
        "0 to 1",
        "the share of requests that get no answer",
    ),
    Setting(
        "HANG_MAX_SECONDS",
        "60",
        "0 to 3600",
        "how long a hang holds a connection",
    ),
    Setting(
        "SEED",
        "",
        "64 bits, decimal or 0x",
        "repeats the draws; drawn afresh when absent",
    ),
    Setting(
        "RECEIPTS_MAX",
        "10000",
        "1 to 1000000",
        "how many receipts are kept",
    ),
];

const SECRET_MEANING: &str = "must match the sender's; several, separated by commas, all count";

struct Setting(&'static str, &'static str, &'static str, &'static str);

/// What the binary runs with.
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

/// Every setting that could not be read, in the order of the help text.
#[derive(Debug, thiserror::Error)]
pub struct ConfigError {
    problems: Vec<String>,
}

impl Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} of the settings cannot be used",
            self.problems.len()
        )?;
        self.problems
            .iter()
            .try_for_each(|problem| write!(formatter, "\n  {problem}"))
    }
}

impl Config {
    /// Reads every setting; `seed_fresh` is the seed when none is given.
    ///
    /// # Errors
    ///
    /// Names every setting that is not within its limits.
    pub fn from_lookup(
        lookup: impl Fn(&str) -> Option<String>,
        seed_fresh: u64,
    ) -> Result<Self, ConfigError> {
        let mut reader = Reader {
            lookup,
            problems: Vec::new(),
        };
        let bind = reader.parse("BIND");
        let secrets = reader.parse("WEBHOOK_SECRET");
        let failure_rate = reader.number("FAILURE_RATE", 0.0..=1.0);
        let delay_seconds = reader.number("MAX_DELAY_SEC", 0.0..=3600.0);
        let hang_rate = reader.number("HANG_RATE", 0.0..=1.0);
        let hang_seconds = reader.number("HANG_MAX_SECONDS", 0.0..=3600.0);
        let seed = reader.seed(seed_fresh);
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
                Ok(Self {
                    bind,
                    secrets,
                    demo,
                    receipts_max,
                })
            }
            _ => Err(ConfigError {
                problems: reader.problems,
            }),
        }
    }

    /// The table of settings for the help text.
    pub fn help() -> String {
        let mut help = String::from("Settings (environment):\n");
        for Setting(name, default, limits, meaning) in &SETTINGS {
            let default = if default.is_empty() { "none" } else { default };
            help += &format!(
                "  {name:<18}{meaning}\n{:20}[default: {default}] [{limits}]\n",
                ""
            );
        }
        help + "  RUST_LOG          what is logged\n                    [default: info]\n"
    }
}

struct Reader<L> {
    lookup: L,
    problems: Vec<String>,
}

impl<L: Fn(&str) -> Option<String>> Reader<L> {
    /// The text of a setting, or its default when it is not set at all.
    fn text(&self, name: &str) -> String {
        let default = SETTINGS
            .iter()
            .find(|setting| setting.0 == name)
            .map_or("", |found| found.1);
        (self.lookup)(name).unwrap_or_else(|| default.to_owned())
    }

    fn parse<T: FromStr<Err: Display>>(&mut self, name: &str) -> Option<T> {
        let text = self.text(name);
        // The text is not repeated: of a secret it must not be, and the name says enough.
        self.keep(
            name,
            text.trim().parse::<T>().map_err(|error| error.to_string()),
        )
    }

    fn number<T>(&mut self, name: &str, limits: RangeInclusive<T>) -> Option<T>
    where
        T: FromStr + PartialOrd + Display,
    {
        let text = self.text(name);
        let number = text
            .trim()
            .parse()
            .ok()
            .filter(|number| limits.contains(number));
        let problem = || {
            format!(
                "{text:?} is no number from {} to {}",
                limits.start(),
                limits.end()
            )
        };
        self.keep(name, number.ok_or_else(problem))
    }

    fn seed(&mut self, fresh: u64) -> u64 {
        let text = self.text("SEED");
        let seed = match text.trim() {
            // Compose passes an unset variable on as an empty text.
            "" => Some(fresh),
            text => match text.strip_prefix("0x") {
                Some(digits) => u64::from_str_radix(digits, 16).ok(),
                None => text.parse().ok(),
            },
        };
        let problem = || format!("{text:?} is no number of 64 bits, decimal or with 0x");
        self.keep("SEED", seed.ok_or_else(problem))
            .unwrap_or_default()
    }

    fn keep<T>(&mut self, name: &str, read: Result<T, String>) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err(problem) => {
                self.problems.push(format!("{name}: {problem}"));
                None
            }
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the limits of both settings are far inside of 64 bits"
)]
fn milliseconds(seconds: f64) -> u64 {
    (seconds * 1000.0).round() as u64
}
