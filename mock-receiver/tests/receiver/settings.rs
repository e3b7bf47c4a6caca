//! Settings of the binary: defaults, limits and error texts.

use std::collections::BTreeMap;

use mock_receiver::config::Config;
use mock_receiver::config::settings::SETTINGS;

fn read(settings: &[(&str, &str)]) -> Result<Config, String> {
    let settings: BTreeMap<_, _> = settings.iter().copied().collect();
    let lookup = |name: &str| settings.get(name).map(|value| (*value).to_owned());
    Config::from_lookup(lookup, 77).map_err(|error| error.to_string())
}

#[test]
fn defaults_are_those_of_the_specification() {
    let config = read(&[]).unwrap();
    assert_eq!(config.bind.to_string(), "127.0.0.1:8080");
    assert_eq!(config.demo.seed, 77);
    assert_eq!(config.demo.delay_ms_max, 5000);
    assert_eq!((config.demo.failure_rate, config.demo.hang_rate), (0.7, 0.08));
}

#[test]
fn seed_is_decimal_or_hexadecimal_and_empty_means_random() {
    let seed = |text| read(&[("SEED", text)]).unwrap().demo.seed;
    assert_eq!((seed("12"), seed("0x5eed"), seed("")), (12, 0x5eed, 77));
}

#[test]
fn all_problems_are_reported_together_without_the_secret() {
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
    assert_eq!(
        error,
        r#"invalid settings (`mock-receiver --help` lists all settings):
  BIND: invalid socket address syntax: set an address and port like 127.0.0.1:8080
  WEBHOOK_SECRET: entry 1 has no padded base64 key after whsec_: set the secret of the dispatcher, or several separated by single commas
  FAILURE_RATE="1.1" is invalid: set a number from 0 to 1
  MAX_DELAY_SEC="-1" is invalid: set a number from 0 to 3600
  HANG_RATE="NaN" is invalid: set a number from 0 to 1
  HANG_MAX_SECONDS="3601" is invalid: set a number from 0 to 3600
  SEED="0xg" is invalid: set a 64-bit number, decimal or hexadecimal after 0x
  RECEIPTS_MAX="0" is invalid: set a number from 1 to 1000000"#
    );
}

#[test]
fn every_default_in_the_table_is_accepted() {
    for setting in SETTINGS {
        let config = read(&[(setting.name, setting.default)]);
        assert!(config.is_ok(), "{}: {config:?}", setting.name);
    }
}
