//! Payloads of planned events: JSON texts of many shapes. Their exact bytes must arrive.

use std::fmt::Write as _;

use rand::RngExt;
use rand::seq::IndexedRandom;

use crate::seed::Stream;

/// Deepest nesting that is drawn. The contract allows 128.
const DEPTH_MAX: usize = 100;

/// Texts that change if they are parsed and written again.
const FRAGILE: &[&str] = &[
    "1.0",
    "-0",
    "1e400",
    "0.1000",
    "123456789012345678901234567890",
    r#""\u00e9\/\ud83d\ude00""#,
    r#""caf\u0065""#,
    r#"{"a":1,"a":2}"#,
    r#"{"b":1,"a":2}"#,
    "[ ]",
    "{\n\t\"k\" : [1 ,2]\r\n}",
    "null",
    "true",
    "\"\"",
    "{}",
    "\"\u{7f}\u{2028}\u{feff}\"",
];

/// Strings, most of them not ASCII, that are written without escapes.
const WORDS: &[&str] = &["déjà vu", "снег", "雪", "🚚📦", "e\u{301}", "שלום", "plain", "a\u{0}b"];

/// Draws one payload of about `bytes_max` bytes at most. Small shapes may exceed a small limit.
pub(super) fn draw(draws: &mut Stream, bytes_max: usize) -> String {
    match draws.random_range(0..20) {
        0..=4 => (*FRAGILE.choose(draws).expect("the list has entries")).to_owned(),
        5 => big(draws, bytes_max),
        6 => nested(draws),
        7..=9 => spaced(draws),
        _ => object(draws),
    }
}

fn object(draws: &mut Stream) -> String {
    let number: i64 = draws.random_range(i64::MIN..i64::MAX);
    let word = string(WORDS.choose(draws).expect("the list has entries"));
    let fragile = FRAGILE.choose(draws).expect("the list has entries");
    format!(r#"{{"number":{number},"word":{word},"fragile":{fragile}}}"#)
}

fn spaced(draws: &mut Stream) -> String {
    let blank = [" ", "\n", "\t", "\r\n", ""].choose(draws).expect("the list has entries");
    let word = string(WORDS.choose(draws).expect("the list has entries"));
    let number = draws.random_range(0..1_000);
    format!("[{blank}{number}.{number:03}{blank},{blank}{word}{blank},{blank}{{{blank}}}{blank}]")
}

fn nested(draws: &mut Stream) -> String {
    let depth = draws.random_range(1..=DEPTH_MAX);
    format!("{}{}", "[".repeat(depth), "]".repeat(depth))
}

fn big(draws: &mut Stream, bytes_max: usize) -> String {
    let bytes = draws.random_range(bytes_max / 4..=bytes_max);
    let mut text = String::from("[");
    while text.len() + 12 < bytes {
        let number: u32 = draws.random();
        write!(text, "{number},").expect("writing to a string does not fail");
    }
    text.push_str("0]");
    text
}

/// A JSON string in which only control characters, quotes and backslashes are escaped.
fn string(text: &str) -> String {
    serde_json::to_string(text).expect("every text is a JSON string")
}
