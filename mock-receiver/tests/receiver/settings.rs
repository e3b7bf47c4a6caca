//! The settings of the binary.

use std::collections::BTreeMap;

use mock_receiver::config::Config;

fn read(settings: &[(&str, &str)]) -> Result<Config, String> {
    let settings: BTreeMap<_, _> = settings.iter().copied().collect();
    let lookup = |name: &str| settings.get(name).map(|value| (*value).to_owned());
    Config::from_lookup(lookup, 77).map_err(|error| error.to_string())
}

#[test]
fn the_defaults_are_the_specified_ones() {
    let config = read(&[]).unwrap();
    assert_eq!(config.bind.to_string(), "127.0.0.1:8080");
    assert_eq!(config.demo.seed, 77);
    assert_eq!(config.demo.delay_ms_max, 5000);
    assert_eq!(
        (config.demo.failure_rate, config.demo.hang_rate),
        (0.7, 0.08)
    );
}

#[test]
fn a_seed_is_decimal_or_hexadecimal_and_blank_means_none() {
    let seed = |text| read(&[("SEED", text)]).unwrap().demo.seed;
    assert_eq!((seed("12"), seed("0x5eed"), seed("")), (12, 0x5eed, 77));
}

#[test]
fn every_problem_is_reported_at_once_by_name_and_no_secret_is_shown() {
    let error = read(&[
        ("BIND", "here"),
        ("WEBHOOK_SECRET", "whsec_hush!"),
        ("FAILURE_RATE", "1.1"),
        ("MAX_DELAY_SEC", "-1"),
        ("HANG_RATE", "NaN"),
        ("HANG_MAX_SECONDS", "3601"),
        ("SEED", "0xg"),
        ("RECEIPTS_MAX", "0"),
    ])
    .unwrap_err();
    for name in [
        "BIND",
        "WEBHOOK_SECRET",
        "FAILURE_RATE",
        "MAX_DELAY_SEC",
        "HANG_RATE",
    ] {
        assert!(error.contains(&format!("\n  {name}: ")), "{error}");
    }
    for name in ["HANG_MAX_SECONDS", "SEED", "RECEIPTS_MAX"] {
        assert!(error.contains(&format!("\n  {name}: ")), "{error}");
    }
    assert!(!error.contains("hush"), "{error}");
}

#[test]
fn the_help_names_every_setting() {
    let help = Config::help();
    for name in [
        "BIND",
        "WEBHOOK_SECRET",
        "FAILURE_RATE",
        "MAX_DELAY_SEC",
        "HANG_RATE",
        "SEED",
    ] {
        assert!(help.contains(name), "{help}");
    }
}
