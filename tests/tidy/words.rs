//! Words that are never written, in prose or in code.

use super::tree::{self, Tree};

/// Written in pieces, so that this file passes its own rule. Compared in lower case, with blanks,
/// hyphens and underscores taken as one.
const IN_ANY_TEXT: &[(&str, &str)] = &[
    (
        concat!("exactly", " once"),
        "delivery is at least once; receivers deduplicate by event id",
    ),
    (
        concat!("retry", " count"),
        "the words are attempt_count and failure_count",
    ),
];

const IN_CODE: &[(&str, &str)] = &[
    (concat!("#[", "ignore"), "a test runs or is not there"),
    (
        concat!("#[", "allow("),
        "write #[expect(…, reason = \"…\")]",
    ),
    (
        concat!("#![", "allow("),
        "write #![expect(…, reason = \"…\")]",
    ),
    (concat!("todo", "!("), "finish it or leave it out"),
    (concat!("unimplemented", "!("), "finish it or leave it out"),
    (concat!("dbg", "!("), "log it or leave it out"),
];

/// Every line with such a word, and files whose name hides what they hold.
pub(super) fn forbidden(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for (path, text) in tree.all() {
        for (at, line) in (1..).zip(text.lines()) {
            let plain = line.to_lowercase().replace(['-', '_'], " ");
            let written = IN_ANY_TEXT.iter().filter(|(word, _)| plain.contains(word));
            findings
                .extend(written.map(|(word, why)| format!("{path}:{at}: says {word:?}: {why}")));
        }
    }
    for (path, text) in tree.rust() {
        if path.ends_with("/mod.rs") {
            findings.push(format!(
                "{path}:1: is a mod.rs; name the file after its module"
            ));
        }
        for (at, line) in tree::code(text) {
            let written = IN_CODE.iter().filter(|(word, _)| line.contains(word));
            findings.extend(written.map(|(word, why)| format!("{path}:{at}: has {word}: {why}")));
        }
    }
    findings
}
