//! Tests of scripts and of the text form of behaviors.

use std::collections::BTreeMap;

use mock_receiver::demo::Demo;
use mock_receiver::{Behavior, BehaviorError, RetryAfter, Seen};

const DEMO: Demo = Demo {
    seed: 0x5eed,
    failure_rate: 0.7,
    delay_ms_max: 5000,
    hang_rate: 0.08,
    hang_ms_max: 60_000,
};

fn seen(ordinal: u64, attempt: u32) -> Seen {
    Seen { ordinal: Some(ordinal), attempt: Some(attempt), id: "any".into(), arrival: 1 }
}

fn draws(demo: Demo) -> BTreeMap<(u64, u32), Behavior> {
    let keys = (0..2000).flat_map(|ordinal| (1..=5).map(move |attempt| (ordinal, attempt)));
    keys.map(|(ordinal, attempt)| ((ordinal, attempt), demo.draw(&seen(ordinal, attempt))))
        .collect()
}

#[test]
fn seed_determines_the_draws_in_any_order() {
    let forward = draws(DEMO);
    for (&(ordinal, attempt), behavior) in forward.iter().rev() {
        assert_eq!(DEMO.draw(&seen(ordinal, attempt)), *behavior);
    }
    assert_ne!(forward, draws(Demo { seed: 0x5eee, ..DEMO }));
}

#[test]
fn id_and_arrivals_replace_ordinal_and_attempt() {
    let by_id = |id: &str, attempt, arrival| {
        DEMO.draw(&Seen { ordinal: None, attempt, id: id.into(), arrival })
    };
    assert_eq!(by_id("a", Some(3), 1), by_id("a", Some(3), 9));
    assert_eq!(by_id("a", Some(3), 1), by_id("a", None, 3));
    assert_ne!(by_id("a", Some(3), 1), by_id("b", Some(3), 1));
}

/// The seed fixes the draws, so the test cannot fail by chance. For 10,000 draws, three standard
/// deviations of a share are 0.014.
#[test]
fn shares_match_the_rates() {
    let draws = draws(DEMO);
    let share = |wanted: fn(&Behavior) -> bool, of: fn(&Behavior) -> bool| {
        let all = draws.values().filter(|behavior| of(behavior)).count();
        let found = draws.values().filter(|behavior| of(behavior) && wanted(behavior)).count();
        found as f64 / all as f64
    };
    let hangs = |behavior: &Behavior| matches!(behavior, Behavior::Hang { hold_ms: 60_000 });
    let answers = |behavior: &Behavior| behavior.status().is_some();
    let fails = |behavior: &Behavior| behavior.status().is_some_and(|status| status != 200);
    let slow = |behavior: &Behavior| match behavior {
        Behavior::Answer { after_ms, .. } => *after_ms > 2500,
        _ => false,
    };
    for (share, rate) in [
        (share(hangs, |_| true), 0.08),
        (share(fails, answers), 0.7),
        (share(slow, answers), 0.5),
        (share(|behavior| behavior.status() == Some(500), fails), 0.8),
    ] {
        assert!((share - rate).abs() < 0.02, "{share} instead of {rate}");
    }
}

#[test]
fn one_setting_does_not_change_the_draws_of_the_others() {
    let hanging = draws(DEMO);
    let answering = draws(Demo { hang_rate: 0.0, ..DEMO });
    for (key, behavior) in &hanging {
        if !matches!(behavior, Behavior::Hang { .. }) {
            assert_eq!(behavior, &answering[key]);
        }
    }
}

#[test]
fn rates_of_zero_and_one_are_exact() {
    let all = |demo: Demo, wanted: fn(&Behavior) -> bool| draws(demo).values().all(wanted);
    let calm = Demo { failure_rate: 0.0, hang_rate: 0.0, delay_ms_max: 0, ..DEMO };
    assert!(all(calm, |behavior| *behavior == Behavior::answer(200)));
    assert!(all(Demo { failure_rate: 1.0, ..calm }, |behavior| behavior.status() != Some(200)));
    let hung = Demo { hang_rate: 1.0, ..DEMO };
    assert!(all(hung, |behavior| matches!(behavior, Behavior::Hang { .. })));
}

#[test]
fn every_kind_parses_by_its_name_and_round_trips() {
    for (kind, about) in Behavior::CATALOG {
        assert!(!about.is_empty());
        let parameters = match kind {
            "answer" => r#","status":503,"retry_after":{"seconds":3}"#,
            "redirect" => r#","location":"http://127.0.0.1/""#,
            "answer_then" => r#","then":"response""#,
            _ => "",
        };
        let behavior = Behavior::parse(&format!(r#"{{"kind":"{kind}"{parameters}}}"#)).unwrap();
        assert_eq!(behavior.kind(), kind);
        let text = serde_json::to_string(&behavior).unwrap();
        assert_eq!(Behavior::parse(&text).unwrap(), behavior, "{text}");
    }
}

#[test]
fn text_form_is_the_documented_one() {
    let text = r#"{"kind":"answer","status":500,"after_ms":0}"#;
    assert_eq!(Behavior::parse(text).unwrap(), Behavior::answer(500));
    assert_eq!(serde_json::to_string(&Behavior::answer(500)).unwrap(), text);
    let text = r#"{"kind":"answer","status":429,"retry_after":{"date_in":-5},"after_ms":7}"#;
    let retry_after = Some(RetryAfter::DateIn(-5));
    let behavior = Behavior::Answer { status: 429, retry_after, after_ms: 7 };
    assert_eq!(Behavior::parse(text).unwrap(), behavior);
}

#[test]
fn behavior_that_cannot_be_sent_is_refused() {
    let parse = |text: &str| Behavior::parse(text).unwrap_err();
    assert!(matches!(parse(r#"{"kind":"sulk"}"#), BehaviorError::Syntax(_)));
    assert!(matches!(parse(r#"{"kind":"hang","for":1}"#), BehaviorError::Syntax(_)));
    assert!(matches!(parse(r#"{"kind":"answer","status":99}"#), BehaviorError::Status(99)));
    let split = r#"{"kind":"redirect","location":"x\r\nset-cookie: y"}"#;
    assert!(matches!(parse(split), BehaviorError::Header(_)));
}
