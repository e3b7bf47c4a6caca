//! Table of all settings. The reader, `--help` and `docs/configuration.md` use it.

/// One environment variable.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Name of the variable.
    pub name: &'static str,
    /// Value if the variable is not set. Empty means none.
    pub default: &'static str,
    /// Accepted values, with their unit.
    pub limits: &'static str,
    /// Meaning, in one or two sentences.
    pub about: &'static str,
}

/// All settings, in the order of `--help`.
pub const SETTINGS: &[Setting] = &[
    Setting {
        name: "BIND",
        default: "127.0.0.1:8080",
        limits: "address:port",
        about: "Address on which the receiver listens.",
    },
    Setting {
        name: "WEBHOOK_SECRET",
        default: "change-me-in-production",
        limits: "text, or whsec_ and base64; comma-separated",
        about: "Secret of the dispatcher. A signature by any one of several secrets is valid.",
    },
    Setting {
        name: "FAILURE_RATE",
        default: "0.7",
        limits: "0 to 1",
        about: "Share of the responses that are failures.",
    },
    Setting {
        name: "MAX_DELAY_SEC",
        default: "5",
        limits: "0 to 3600 seconds",
        about: "Longest delay of a response. Each delay is drawn between 0 and this value.",
    },
    Setting {
        name: "HANG_RATE",
        default: "0.08",
        limits: "0 to 1",
        about: "Share of the requests that get no response.",
    },
    Setting {
        name: "HANG_MAX_SECONDS",
        default: "60",
        limits: "0 to 3600 seconds",
        about: "Time after which the receiver closes the connection of a request without a \
                response.",
    },
    Setting {
        name: "SEED",
        default: "",
        limits: "64 bits, decimal or hexadecimal after 0x",
        about: "Seed of all draws. If empty, the receiver draws a seed and logs it.",
    },
    Setting {
        name: "RECEIPTS_MAX",
        default: "10000",
        limits: "1 to 1000000",
        about: "Maximum number of receipts that are kept for `GET /receipts`.",
    },
    Setting {
        name: "RUST_LOG",
        default: "info",
        limits: "tracing filter",
        about: "Log filter, e.g. `warn` or `mock_receiver=debug`.",
    },
];

/// Returns the default of one setting; empty if it has none.
pub(super) fn default(name: &str) -> &'static str {
    let found = SETTINGS.iter().find(|setting| setting.name == name);
    found.map_or("", |setting| setting.default)
}

/// Returns the table for `--help`.
pub fn help() -> String {
    let mut lines = String::from("Settings (environment variables):\n");
    for setting in SETTINGS {
        let default = match setting.default {
            "" => "none",
            other => other,
        };
        lines += &format!(
            "\n  {}\n      {}\n      default: {default}; limits: {}\n",
            setting.name, setting.about, setting.limits
        );
    }
    lines
}

/// Returns the table for `docs/configuration.md`.
pub fn markdown() -> String {
    let mut lines = String::from("| Setting | Default | Limits | Meaning |\n|---|---|---|---|\n");
    for setting in SETTINGS {
        let default = match setting.default {
            "" => "none".to_owned(),
            other => format!("`{other}`"),
        };
        lines += &format!(
            "| `{}` | {default} | {} | {} |\n",
            setting.name, setting.limits, setting.about
        );
    }
    lines
}
