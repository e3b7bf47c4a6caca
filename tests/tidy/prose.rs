//! Plain English, as far as a program can check it: rates of vague words, columns, names of tests,
//! and comments without content. `docs/STYLE.md` has the rules.

use super::tree::{self, Tree};

/// Words per 1,000 comment lines. Below this level the words are ordinary English.
const BARS: &[Bar] = &[
    Bar { words: &["what"], per_1000_lines_max: 25 },
    Bar { words: &["nobody", "so many", "tells", "told", "whoever"], per_1000_lines_max: 4 },
];

const COLUMNS_MAX: usize = 100;
const TEST_NAME_CHARS_MAX: usize = 70;

/// Doc comments that only repeat the name of their item.
const EMPTY_DOCS: &[&str] = &[
    "A new one.",
    "Its id.",
    "Its kind.",
    "Its name.",
    "Its number.",
    "The entry of the register.",
    "The register's entry.",
    "What it is made of.",
    "What it is.",
    "What it says.",
    "Which one.",
    "Who it is.",
    "Whose.",
];

struct Bar {
    words: &'static [&'static str],
    per_1000_lines_max: usize,
}

/// Returns a finding for each bar that the comments of all Rust files pass.
pub(super) fn over_bars(tree: &Tree) -> Vec<String> {
    let comments: Vec<String> = tree
        .rust()
        .flat_map(|(_, text)| comments(text))
        .map(|(_, line)| line.to_lowercase())
        .collect();
    let text = comments.join("\n");
    let over = BARS.iter().filter_map(|bar| {
        let count: usize = bar.words.iter().map(|word| occurrences(&text, word)).sum();
        let limit = bar.per_1000_lines_max;
        (count * 1_000 > limit * comments.len()).then(|| {
            let words = bar.words.join(", ");
            let lines = comments.len();
            format!("comments:1: {count} times {words} in {lines} lines, {limit} per 1,000 allowed")
        })
    });
    over.collect()
}

/// Returns a finding for each comment or Markdown line that is too wide. Tables are exempt, and so
/// is a line without a blank behind its marker, such as a long URL.
pub(super) fn too_wide(tree: &Tree) -> Vec<String> {
    let comments =
        tree.rust().flat_map(|(path, text)| comments(text).map(move |(at, line)| (path, at, line)));
    let prose = tree.all().filter(|(path, _)| path.ends_with(".md")).flat_map(|(path, text)| {
        let lines = (1..).zip(text.lines());
        let outside_tables = lines.filter(|(_, line)| !line.trim_start().starts_with('|'));
        outside_tables.map(move |(at, line)| (path, at, line))
    });
    comments
        .chain(prose)
        .filter(|(_, _, line)| line.chars().count() > COLUMNS_MAX)
        .filter(|(_, _, line)| line.split_whitespace().count() > 2)
        .map(|(path, at, _)| format!("{path}:{at}: has more than {COLUMNS_MAX} columns"))
        .collect()
}

/// Returns a finding for each test whose name is too long to state one behavior.
pub(super) fn long_test_names(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for (path, text) in tree.rust() {
        let mut is_test = false;
        for (at, line) in tree::code(text) {
            let line = line.trim();
            if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                is_test = true;
            } else if let Some(name) = function_name(line) {
                if is_test && name.len() > TEST_NAME_CHARS_MAX {
                    findings.push(format!(
                        "{path}:{at}: {name} has more than {TEST_NAME_CHARS_MAX} characters"
                    ));
                }
                is_test = false;
            }
        }
    }
    findings
}

/// Returns a finding for each doc comment that says nothing.
pub(super) fn empty_docs(tree: &Tree) -> Vec<String> {
    let docs =
        tree.rust().flat_map(|(path, text)| comments(text).map(move |(at, line)| (path, at, line)));
    docs.filter_map(|(path, at, line)| {
        let text = line.strip_prefix("///")?.trim();
        let is_empty = EMPTY_DOCS.contains(&text);
        is_empty.then(|| format!("{path}:{at}: {text:?} only repeats the name of the item"))
    })
    .collect()
}

/// Comment lines with their numbers, without indentation. A comment behind code does not count.
fn comments(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = (1..).zip(text.lines());
    lines.map(|(at, line)| (at, line.trim_start())).filter(|(_, line)| line.starts_with("//"))
}

fn function_name(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("fn ")?;
    rest.split(['(', '<']).next()
}

/// Occurrences of a word or phrase that is not part of a longer word.
fn occurrences(text: &str, word: &str) -> usize {
    let starts = text.match_indices(word).map(|(at, _)| at);
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    starts
        .filter(|at| {
            let before = text[..*at].chars().next_back();
            let after = text[at + word.len()..].chars().next();
            !is_part(before) && !is_part(after)
        })
        .count()
}
