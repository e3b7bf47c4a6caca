//! The texts of the repository by path, read for each test, or invented for the test of a rule.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const READ: &[&str] = &["md", "rs", "sql", "toml", "yml"];
const SKIPPED: &[&str] = &[".git", "target"];

/// Texts by relative path with `/` as separator.
pub(super) struct Tree(BTreeMap<String, String>);

impl Tree {
    /// Reads the checkout.
    pub(super) fn read() -> Self {
        let mut texts = BTreeMap::new();
        walk(&root(), "", &mut texts);
        Self(texts)
    }

    /// An invented tree.
    pub(super) fn of(texts: &[(&str, &str)]) -> Self {
        let owned = |(path, text): &(&str, &str)| ((*path).to_owned(), (*text).to_owned());
        Self(texts.iter().map(owned).collect())
    }

    /// Names of files and folders at the top level.
    pub(super) fn top_level() -> Vec<String> {
        entries(&root()).into_iter().map(|(name, _)| name).collect()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    pub(super) fn rust(&self) -> impl Iterator<Item = (&str, &str)> {
        self.all().filter(|(path, _)| path.ends_with(".rs"))
    }

    pub(super) fn under<'a>(
        &'a self,
        folder: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> + 'a {
        self.all().filter(move |(path, _)| path.starts_with(folder))
    }

    /// A file's path as the tree stores it, and its text.
    pub(super) fn entry(&self, path: &str) -> Option<(&str, &str)> {
        let (path, text) = self.0.get_key_value(path)?;
        Some((path, text))
    }

    /// Returns an empty text if the file does not exist, so that its rules report a finding.
    pub(super) fn text(&self, path: &str) -> &str {
        self.0.get(path).map_or("", String::as_str)
    }

    /// Returns true if the file or folder exists, also if it was not read.
    pub(super) fn has(&self, path: &str) -> bool {
        let folder = format!("{path}/");
        self.0.contains_key(path)
            || self.0.keys().any(|known| known.starts_with(&folder))
            || root().join(path).exists()
    }
}

/// The part of a Rust file before its test module.
pub(super) fn without_tests(text: &str) -> &str {
    let start = text.find("#[cfg(test)]\nmod ").or_else(|| {
        // An `#[expect]` of the test module may stand between the two lines.
        text.find("#[cfg(test)]\n#[expect(")
    });
    start.map_or(text, |at| &text[..at])
}

/// Lines of a Rust text with their numbers, without comments and contents of string literals.
pub(super) fn code(text: &str) -> impl Iterator<Item = (usize, String)> + '_ {
    (1..).zip(text.lines().map(code_of_line))
}

fn code_of_line(line: &str) -> String {
    let mut code = String::new();
    let mut in_string = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if in_string => drop(chars.next()),
            '"' => in_string = !in_string,
            '/' if !in_string && chars.peek() == Some(&'/') => break,
            _ if in_string => {}
            other => code.push(other),
        }
    }
    code
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn walk(folder: &Path, prefix: &str, texts: &mut BTreeMap<String, String>) {
    for (name, path) in entries(folder) {
        if path.is_dir() {
            if !SKIPPED.contains(&name.as_str()) {
                walk(&path, &format!("{prefix}{name}/"), texts);
            }
        } else if READ.iter().any(|ending| name.ends_with(&format!(".{ending}"))) {
            let text = std::fs::read_to_string(&path).expect("the text is UTF-8");
            texts.insert(format!("{prefix}{name}"), text);
        }
    }
}

fn entries(folder: &Path) -> Vec<(String, PathBuf)> {
    let read = std::fs::read_dir(folder).expect("the folder exists");
    let mut entries: Vec<_> = read
        .map(|entry| entry.expect("the folder can be read"))
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
        .collect();
    entries.sort();
    entries
}
