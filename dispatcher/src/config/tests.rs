//! Defaults, limits, refused combinations and error texts.
#![expect(clippy::unwrap_used, reason = "tests")]
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use super::*;

fn read(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::from_lookup(|name| {
        pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
    })
}

/// Returns the error text without its first line.
fn errors(pairs: &[(&str, &str)]) -> Vec<String> {
    let error = read(pairs).unwrap_err().to_string();
    error.lines().skip(1).map(|line| line.trim().to_owned()).collect()
}

/// Returns the names of the invalid settings.
fn invalid(pairs: &[(&str, &str)]) -> Vec<&'static str> {
    let error = read(pairs).unwrap_err();
    error.errors().iter().map(|error| error.name).collect()
}

#[test]
fn defaults_are_those_of_the_specification() {
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
    assert_eq!((config.worker.in_flight_max, config.worker.in_flight_per_host_max), (512, 64));
    assert_eq!(
        (config.api.body_bytes_max, config.transport.response_bytes_max),
        (1 << 20, 1 << 20)
    );
    assert_eq!(config.transport.snippet_bytes_max, 1024);
    assert!(config.api.default_target.is_none() && config.api.keys.is_empty());
    assert_eq!(config.warnings.len(), 1);
    assert!(
        config.warnings[0].starts_with("WEBHOOK_SECRET is the published default"),
        "also on loopback"
    );
}

#[test]
fn derived_defaults_follow_the_timeout() {
    let config = read(&[("HTTP_TIMEOUT", "0.5")]).unwrap();
    assert_eq!(config.worker.lease, Duration::from_secs(1));
    assert_eq!(config.worker.shutdown, Duration::from_millis(5500));
}

#[test]
fn all_invalid_settings_are_reported_together_with_their_fix() {
    let errors = errors(&[
        ("HTTP_TIMEOUT", "soon"),
        ("MAX_ATTEMPTS", "0"),
        ("BIND", "localhost"),
        ("TARGET_URL", "ftp://x"),
        ("WEBHOOK_SECRET", "whsec_###"),
        ("ALLOWED_TARGET_CIDRS", "10.0.0.0/8,inside"),
        ("API_KEYS", "a,,b"),
        ("PRESENCE", "maybe"),
        ("ALLOW_DEFAULT_SECRET", "perhaps"),
    ]);
    let expected = [
        r#"BIND="localhost" is not an address and port: set one like 127.0.0.1:8000"#,
        r#"ALLOWED_TARGET_CIDRS="10.0.0.0/8,inside" contains "inside", which is not an address range: set ranges like 10.0.0.0/8,::1/128"#,
        "TARGET_URL must begin with http:// or https://, not ftp:",
        "API_KEYS has an empty entry: set keys separated by single commas",
        "WEBHOOK_SECRET has an entry with whsec_ that is not base64: copy it completely, or remove whsec_ to use plain text",
        r#"MAX_ATTEMPTS="0" is invalid: set a whole number from 1 to 1000"#,
        r#"HTTP_TIMEOUT="soon" is invalid: set seconds from 0.01 to 3600, decimals allowed"#,
        r#"PRESENCE="maybe" is invalid: set true or false"#,
        r#"ALLOW_DEFAULT_SECRET="perhaps" is invalid: set true or false"#,
    ];
    assert_eq!(errors, expected);
}

#[test]
fn empty_target_range_is_refused() {
    assert_eq!(invalid(&[("ALLOWED_TARGET_CIDRS", "10.0.0.0/8,,")]), ["ALLOWED_TARGET_CIDRS"]);
}

#[test]
fn too_short_lease_is_refused_with_the_smallest_valid_one() {
    assert_eq!(
        errors(&[("LEASE_SECONDS", "22.4")]),
        ["LEASE_SECONDS=22.4 is below 1.5 x HTTP_TIMEOUT=15: set at least 22.5"]
    );
    assert!(read(&[("LEASE_SECONDS", "22.5")]).is_ok());
}

#[test]
fn database_url_is_refused_without_its_password() {
    let errors = errors(&[("DATABASE_URL", "mysql://me:secret@host/x")]);
    assert_eq!(errors.len(), 1);
    assert!(errors[0].starts_with("DATABASE_URL ") && !errors[0].contains("secret"));
}

#[test]
fn every_default_in_the_table_is_accepted() {
    for setting in SETTINGS {
        let is_derived = setting.default.contains("HTTP_TIMEOUT");
        let must_be_unset = setting.name == "API_KEYS";
        if !is_derived && !must_be_unset {
            let config = read(&[(setting.name, setting.default)]);
            assert!(config.is_ok(), "{}", setting.name);
        }
    }
}

#[test]
fn numbers_outside_the_limits_are_refused() {
    for (name, value) in [
        ("HTTP_TIMEOUT", "0"),
        ("HTTP_TIMEOUT", "-1"),
        ("HTTP_TIMEOUT", "inf"),
        ("HTTP_TIMEOUT", "NaN"),
        ("MAX_ATTEMPTS", "1.5"),
        ("MAX_BODY_BYTES", "99999999999999999999"),
        ("MAX_IN_FLIGHT", ""),
    ] {
        assert_eq!(invalid(&[(name, value)]), [name], "{value}");
    }
}

// Files, k8s secrets and Windows end a value with a line break.
#[test]
fn white_space_around_every_setting_is_removed() {
    let given = [
        ("BIND", "127.0.0.1:1"),
        ("DATABASE_URL", "postgresql://a@b/c"),
        ("WEBHOOK_SECRET", "one, two"),
        ("API_KEYS", "k1 ,k2"),
        ("TARGET_URL", "https://example.com/a"),
        ("ALLOWED_TARGET_CIDRS", "10.0.0.0/8, ::1"),
        ("EXTRA_CA_FILE", ""),
        ("LOG", "info , dispatcher=debug"),
        ("LOG_FORMAT", "json"),
        ("PRESENCE", "false"),
    ];
    for setting in SETTINGS {
        let value = given.iter().find(|(name, _)| *name == setting.name);
        let value = value.map_or(setting.default, |(_, value)| value);
        let value = match setting.default.contains("HTTP_TIMEOUT") {
            true => "100.5",
            false => value,
        };
        let padded = format!("\t {value} \r\n");
        let (plain, padded) =
            (read(&[(setting.name, value)]).unwrap(), read(&[(setting.name, &padded)]).unwrap());
        assert_eq!(format!("{plain:?}"), format!("{padded:?}"), "{}", setting.name);
        let sign = |config: &Config| config.transport.signer.sign("id", 1, b"{}");
        assert_eq!(sign(&plain), sign(&padded), "{}", setting.name);
    }
}

// An empty variable of a deployment must not open the API, and quotes do not belong to a key.
#[test]
fn blank_or_quoted_api_keys_are_refused() {
    for keys in ["", " ", "\n", ",", "a,", "\"\"", "'a'", "\"a,b\"", "a,\"b\""] {
        assert_eq!(invalid(&[("API_KEYS", keys)]), ["API_KEYS"], "{keys:?}");
    }
}

#[test]
fn unsafe_combinations_are_refused() {
    assert_eq!(invalid(&[("BIND", "0.0.0.0:8000")]), ["WEBHOOK_SECRET"]);
    let rotating = [("BIND", "0.0.0.0:8000"), ("WEBHOOK_SECRET", "mine, change-me-in-production")];
    assert_eq!(invalid(&rotating), ["WEBHOOK_SECRET"]);
    assert_eq!(
        invalid(&[("BACKOFF_BASE_SECONDS", "5"), ("BACKOFF_CAP_SECONDS", "4")]),
        ["BACKOFF_CAP_SECONDS"]
    );
}

#[test]
fn risky_combinations_are_reported_as_warnings() {
    let open = read(&[("BIND", "0.0.0.0:8000"), ("WEBHOOK_SECRET", "mine")]).unwrap();
    assert_eq!(open.warnings.len(), 1);
    let demo = read(&[("BIND", "0.0.0.0:8000"), ("ALLOW_DEFAULT_SECRET", "true")]).unwrap();
    assert_eq!(demo.warnings.len(), 2);
    let closed = [("BIND", "0.0.0.0:8000"), ("WEBHOOK_SECRET", "mine"), ("API_KEYS", "k1, k2")];
    let closed = read(&closed).unwrap();
    assert!(closed.warnings.is_empty());
    assert_eq!(closed.api.keys, ["k1", "k2"]);
}

#[test]
fn ca_file_without_certificates_is_refused() {
    let no_pem = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    assert_eq!(invalid(&[("EXTRA_CA_FILE", no_pem)]), ["EXTRA_CA_FILE"]);
    assert_eq!(invalid(&[("EXTRA_CA_FILE", "/nowhere")]), ["EXTRA_CA_FILE"]);
    assert!(read(&[("EXTRA_CA_FILE", "")]).is_ok());
}

#[test]
fn invalid_log_filter_or_format_is_refused() {
    for filter in ["inof", "info,dispatcher=loud", "[", "dispatcher", "info,,"] {
        assert_eq!(invalid(&[("LOG", filter)]), ["LOG"], "{filter}");
    }
    for filter in ["info", "WARN", "info, dispatcher=debug", "off", ""] {
        assert!(read(&[("LOG", filter)]).is_ok(), "{filter}");
    }
    let both = [("LOG", "inof"), ("LOG_FORMAT", "xml")];
    assert_eq!(invalid(&both), ["LOG", "LOG_FORMAT"]);
}

#[test]
fn value_that_is_not_utf_8_is_refused() {
    let bytes = || OsString::from_vec(vec![b'1', 0xff]);
    // With the invalid byte replaced, each of these would be a valid value.
    let names = ["TARGET_URL", "API_KEYS", "LOG", "WEBHOOK_SECRET"];
    let error = Config::from_lookup(|name| names.contains(&name).then(bytes)).unwrap_err();
    let invalid: BTreeSet<_> = error.errors().iter().map(|error| error.name).collect();
    assert_eq!(invalid, names.into());
}
