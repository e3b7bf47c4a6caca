//! Words that are never written: wrong promises, unfinished code, and vague words for readers.

use super::tokens::{self, Kind};
use super::tree::{self, Tree};

/// A word or phrase, and the text of the finding.
struct Word {
    text: &'static str,
    advice: &'static str,
}

/// Forbidden in every file. The texts are written in pieces, so that this file keeps its own rule.
/// They are compared in lower case, with blanks for hyphens and underscores.
const IN_ANY_TEXT: &[Word] = &[
    Word {
        text: concat!("exactly", " once"),
        advice: "delivery is at least once; receivers deduplicate by event id",
    },
    Word { text: concat!("retry", " count"), advice: "use attempt_count or failure_count" },
];

const IN_CODE: &[Word] = &[
    Word { text: concat!("#[", "ignore"), advice: "run the test or delete it" },
    Word { text: concat!("#[", "allow("), advice: "write #[expect(…, reason = \"…\")]" },
    Word { text: concat!("#![", "allow("), advice: "write #![expect(…, reason = \"…\")]" },
    Word { text: concat!("todo", "!("), advice: "complete the code or delete it" },
    Word { text: concat!("unimplemented", "!("), advice: "complete the code or delete it" },
    Word { text: concat!("dbg", "!("), advice: "write a log line or delete it" },
];

/// Forbidden in Markdown and in the texts of the programs: help, log lines, errors and verdicts.
const FOR_READERS: &[Word] = &[
    Word { text: "whoever", advice: "name the worker, client or operator" },
    Word { text: "somebody", advice: "name the worker, client or operator" },
    Word { text: "nobody", advice: "write `no worker` or `no client`" },
    Word { text: "so many", advice: "write the number or the name of the limit" },
    Word { text: "anew", advice: "write `again` or `new`" },
    Word { text: "burnt", advice: "write `counts as an attempt`" },
    Word { text: "unburnt", advice: "write `does not count as an attempt`" },
    Word { text: "all the same", advice: "delete it or state the condition" },
];

/// The guide lists the words themselves.
const STYLE_GUIDE: &str = "docs/STYLE.md";

/// Sources whose string literals a user reads.
const PROGRAMS: &[&str] = &["chaos/src/", "dispatcher/src/", "mock-receiver/src/"];

/// Returns a finding for each forbidden word, and for each `mod.rs`, whose name hides its content.
pub(super) fn forbidden(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for (path, text) in tree.all() {
        for (at, line) in (1..).zip(text.lines()) {
            let plain = line.to_lowercase().replace(['-', '_'], " ");
            let written = IN_ANY_TEXT.iter().filter(|word| plain.contains(word.text));
            findings.extend(written.map(|word| word.finding(path, at)));
        }
    }
    for (path, text) in tree.rust() {
        if path.ends_with("/mod.rs") {
            findings.push(format!("{path}:1: is a mod.rs; name the file after its module"));
        }
        for (at, line) in tree::code(text) {
            let written = IN_CODE.iter().filter(|word| line.contains(word.text));
            findings.extend(written.map(|word| word.finding(path, at)));
        }
    }
    findings
}

/// Returns a finding for each vague word in Markdown, and in the string literals of the programs.
pub(super) fn vague(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    let is_prose = |path: &str| path.ends_with(".md") && path != STYLE_GUIDE;
    for (path, text) in tree.all().filter(|(path, _)| is_prose(path)) {
        for (at, line) in (1..).zip(text.lines()) {
            findings.extend(vague_words(line).map(|word| word.finding(path, at)));
        }
    }
    let is_program = |path: &str| PROGRAMS.iter().any(|start| path.starts_with(start));
    for (path, text) in tree.rust().filter(|(path, _)| is_program(path)) {
        for token in tokens::without_tests(text) {
            // A text without a blank is a name, such as the Unix account `nobody`.
            if let Kind::Text(text) = &token.kind
                && text.contains(' ')
            {
                findings.extend(vague_words(text).map(|word| word.finding(path, token.line)));
            }
        }
    }
    findings
}

impl Word {
    fn finding(&self, path: &str, at: usize) -> String {
        format!("{path}:{at}: has {:?}: {}", self.text, self.advice)
    }
}

fn vague_words(text: &str) -> impl Iterator<Item = &'static Word> {
    let words: Vec<String> = text
        .to_lowercase()
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    let padded = format!(" {} ", words.join(" "));
    FOR_READERS.iter().filter(move |word| padded.contains(&format!(" {} ", word.text)))
}
