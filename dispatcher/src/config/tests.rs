//! The settings' defaults, limits and refusals.
#![expect(clippy::unwrap_used, reason = "tests")]
use std::collections::BTreeSet;
use std::os::unix::ffi::OsStringExt;

use super::*;

fn read(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::from_lookup(|name| {
        pairs
            .iter()
            .find(|(n, _)| *n == name)
            .map(|(_, value)| (*value).to_owned())
    })
}

fn problems(pairs: &[(&str, &str)]) -> Vec<&'static str> {
    read(pairs)
        .unwrap_err()
        .problems()
        .iter()
        .map(|problem| problem.name)
        .collect()
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let config = read(&[]).unwrap();
    let seconds = |d: Duration| d.as_secs_f64();
    assert_eq!(config.bind.to_string(), "127.0.0.1:8000");
    assert_eq!(seconds(config.worker.poll_interval), 1.5);
    assert_eq!(seconds(config.worker.http_timeout), 15.0);
    assert_eq!(seconds(config.worker.lease), 30.0);
    assert_eq!(seconds(config.worker.shutdown), 20.0);
    let policy = config.worker.policy;
    assert_eq!((policy.max_attempts, policy.max_abandoned), (20, 20));
    assert_eq!(
        [policy.base, policy.cap, policy.retry_after_cap].map(seconds),
        [2.0, 3600.0, 86400.0]
    );
    assert_eq!(
        (
            config.worker.in_flight_max,
            config.worker.in_flight_per_host_max
        ),
        (512, 64)
    );
    assert_eq!(
        (
            config.api.body_bytes_max,
            config.transport.response_bytes_max
        ),
        (1 << 20, 1 << 20)
    );
    assert_eq!(config.transport.snippet_bytes_max, 1024);
    assert!(config.api.default_target.is_none() && config.api.keys.is_empty());
    assert!(config.warnings.is_empty());
}

#[test]
fn derived_defaults_follow_the_timeout() {
    let config = read(&[("HTTP_TIMEOUT", "0.5")]).unwrap();
    assert_eq!(config.worker.lease, Duration::from_secs(1));
    assert_eq!(config.worker.shutdown, Duration::from_millis(5500));
}

#[test]
fn every_bad_setting_is_named_at_once() {
    let named = problems(&[
        ("HTTP_TIMEOUT", "soon"),
        ("MAX_ATTEMPTS", "0"),
        ("BIND", "localhost"),
        ("DATABASE_URL", "mysql://x/y"),
        ("TARGET_URL", "ftp://x"),
        ("WEBHOOK_SECRET", "whsec_###"),
        ("ALLOWED_TARGET_CIDRS", "10.0.0.0/8,,"),
        ("API_KEYS", "a,,b"),
        ("PRESENCE", "maybe"),
    ]);
    let all = [
        "BIND",
        "DATABASE_URL",
        "ALLOWED_TARGET_CIDRS",
        "TARGET_URL",
        "API_KEYS",
        "WEBHOOK_SECRET",
        "MAX_ATTEMPTS",
        "HTTP_TIMEOUT",
        "PRESENCE",
    ];
    assert_eq!(named, all);
}

#[test]
fn numbers_outside_their_limits_are_refused() {
    for (name, value) in [
        ("HTTP_TIMEOUT", "0"),
        ("HTTP_TIMEOUT", "-1"),
        ("HTTP_TIMEOUT", "inf"),
        ("HTTP_TIMEOUT", "NaN"),
        ("MAX_ATTEMPTS", "1.5"),
        ("MAX_BODY_BYTES", "99999999999999999999"),
        ("MAX_IN_FLIGHT", ""),
    ] {
        assert_eq!(problems(&[(name, value)]), [name], "{value}");
    }
}

#[test]
fn unsafe_combinations_do_not_boot() {
    assert_eq!(
        problems(&[("HTTP_TIMEOUT", "20"), ("LEASE_SECONDS", "29.9")]),
        ["LEASE_SECONDS"]
    );
    assert_eq!(problems(&[("BIND", "0.0.0.0:8000")]), ["WEBHOOK_SECRET"]);
    let rotating = [
        ("BIND", "0.0.0.0:8000"),
        ("WEBHOOK_SECRET", "mine, change-me-in-production"),
    ];
    assert_eq!(problems(&rotating), ["WEBHOOK_SECRET"]);
    assert_eq!(
        problems(&[("BACKOFF_BASE_SECONDS", "5"), ("BACKOFF_CAP_SECONDS", "4")]),
        ["BACKOFF_CAP_SECONDS"]
    );
}

#[test]
fn what_is_allowed_but_open_is_said() {
    let open = read(&[("BIND", "0.0.0.0:8000"), ("WEBHOOK_SECRET", "mine")]).unwrap();
    assert_eq!(open.warnings.len(), 1);
    let demo = read(&[("BIND", "0.0.0.0:8000"), ("ALLOW_DEFAULT_SECRET", "true")]).unwrap();
    assert_eq!(demo.warnings.len(), 2);
    let closed = [
        ("BIND", "0.0.0.0:8000"),
        ("WEBHOOK_SECRET", "mine"),
        ("API_KEYS", "k1, k2"),
    ];
    let closed = read(&closed).unwrap();
    assert!(closed.warnings.is_empty());
    assert_eq!(closed.api.keys, ["k1", "k2"]);
}

#[test]
fn a_file_without_certificates_adds_no_authority() {
    let no_pem = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    assert_eq!(problems(&[("EXTRA_CA_FILE", no_pem)]), ["EXTRA_CA_FILE"]);
    assert_eq!(
        problems(&[("EXTRA_CA_FILE", "/nowhere")]),
        ["EXTRA_CA_FILE"]
    );
    assert!(read(&[("EXTRA_CA_FILE", "")]).is_ok());
}

#[test]
fn a_log_that_means_nothing_is_refused() {
    for filter in ["inof", "info,dispatcher=loud", "[", "dispatcher"] {
        assert_eq!(problems(&[("LOG", filter)]), ["LOG"], "{filter}");
    }
    for filter in ["info", "WARN", "info, dispatcher=debug", "off", ""] {
        assert!(read(&[("LOG", filter)]).is_ok(), "{filter}");
    }
    let both = [("LOG", "inof"), ("LOG_FORMAT", "xml")];
    assert_eq!(problems(&both), ["LOG", "LOG_FORMAT"]);
}

#[test]
fn what_is_not_utf_8_is_named_instead_of_passed_over() {
    let bytes = || OsString::from_vec(vec![b'1', 0xff]);
    // The secret would be taken as it is, but for the sign that stands for what cannot be read.
    let strange = ["TARGET_URL", "API_KEYS", "LOG", "WEBHOOK_SECRET"];
    let read = Config::from_os_lookup(|name| strange.contains(&name).then(bytes));
    let named = read.unwrap_err();
    let named: BTreeSet<_> = named
        .problems()
        .iter()
        .map(|problem| problem.name)
        .collect();
    assert_eq!(named, strange.into());
}
