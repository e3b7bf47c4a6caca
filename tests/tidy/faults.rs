//! No code of the harness decides by parts of a fault's name.
//!
//! Checkers once excused violations by prefixes such as `net.`, so a new fault excused whatever its
//! name happened to match. They must read the typed `Harm` and `Target` of a fault.

use std::collections::BTreeSet;

use super::modules::Modules;
use super::tokens::{self, Kind, Token};
use super::tree::Tree;

const FAMILIES: &[&str] =
    &["client", "clock", "net", "postgres", "presence", "receiver", "store", "worker"];

/// Methods that look at a part of a text.
const PARTIAL_MATCHES: &[&str] = &["contains", "ends_with", "starts_with", "strip_prefix"];

/// Files that declare faults and their kinds.
const DECLARATIONS: &[&str] = &["chaos/src/fault", "chaos/src/nemesis"];

/// Files that judge or plan. They must not name a single fault either.
const JUDGING: &[&str] =
    &["chaos/src/checker", "chaos/src/history", "chaos/src/schedule", "chaos/src/runner/bound"];

/// Returns a finding for each match on a part of a fault name in `chaos/src`, and for each literal
/// fault kind in the files that judge. Test code may name faults.
pub(super) fn compared(tree: &Tree) -> Vec<String> {
    let kinds = kinds(tree);
    let modules = Modules::of(tree);
    let mut findings = Vec::new();
    for (path, text) in sources(tree).filter(|(path, _)| modules.has(path)) {
        let tokens = tokens::without_tests(text);
        let partial = tokens.windows(3).filter_map(partial_match);
        findings.extend(partial.map(|(line, text)| {
            format!("{path}:{line}: matches {text:?}: read Family, Harm or Target instead")
        }));
        if JUDGING.iter().any(|start| path.starts_with(start)) {
            let literals = tokens.iter().filter_map(literal);
            let named = literals.filter(|(_, text)| kinds.contains(*text));
            findings.extend(named.map(|(line, text)| {
                format!("{path}:{line}: names the fault {text:?}: read Harm or Target instead")
            }));
        }
    }
    findings
}

/// The kinds of all faults, read from the string literals of the declarations.
pub(super) fn kinds(tree: &Tree) -> BTreeSet<String> {
    let declaring =
        sources(tree).filter(|(path, _)| DECLARATIONS.iter().any(|start| path.starts_with(start)));
    declaring
        .flat_map(|(_, text)| tokens::without_tests(text))
        .filter_map(|token| literal(&token).map(|(_, text)| text.to_owned()))
        .filter(|text| is_kind(text))
        .collect()
}

fn sources(tree: &Tree) -> impl Iterator<Item = (&str, &str)> {
    tree.rust().filter(|(path, _)| path.starts_with("chaos/src/"))
}

/// `method("family…")`.
fn partial_match(three: &[Token]) -> Option<(usize, &str)> {
    let method = three[0].name()?;
    let (line, text) = literal(&three[2])?;
    let of_family = FAMILIES.iter().any(|family| {
        let rest = text.strip_prefix(family);
        // `postgres://` is a URL, and a process may contain `postgres`.
        let is_family = |rest: &str| rest.is_empty() && method != "contains";
        rest.is_some_and(|rest| is_family(rest) || rest.starts_with(['.', ' ']) || is_target(rest))
    });
    let matches = PARTIAL_MATCHES.contains(&method) && three[1].is("(") && of_family;
    matches.then_some((line, text))
}

/// `:3` behind the family, as in the display of a target.
fn is_target(rest: &str) -> bool {
    rest.starts_with(':') && !rest.starts_with("://")
}

fn literal(token: &Token) -> Option<(usize, &str)> {
    match &token.kind {
        Kind::Text(text) => Some((token.line, text)),
        Kind::Name(_) | Kind::Sign(_) => None,
    }
}

/// `family.name` in lower case.
fn is_kind(text: &str) -> bool {
    let Some((family, name)) = text.split_once('.') else {
        return false;
    };
    let is_name = |c: char| c == '_' || c.is_ascii_lowercase();
    FAMILIES.contains(&family) && !name.is_empty() && name.chars().all(is_name)
}
