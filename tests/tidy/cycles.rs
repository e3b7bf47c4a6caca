//! Import cycles between files, and the outside crates that pure modules must not reach.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::modules::{Modules, Use};
use super::tree::Tree;

/// Modules of `chaos` that plan and judge. They see no clock, socket, file or process.
const PURE: &[&str] = &["checker", "fault", "history", "plan", "schedule"];

const IMPURE: &[&str] = &["reqwest", "sqlx", "std::fs", "std::net", "std::process", "tokio"];

type Graph<'a> = BTreeMap<&'a str, Vec<Use<&'a str>>>;

/// One finding for each group of files that reach each other: its shortest cycle, use by use.
pub(super) fn cycles(tree: &Tree) -> Vec<String> {
    let graph = graph(&Modules::of(tree));
    let mut findings = Vec::new();
    for group in groups(&graph) {
        let cycle = group
            .iter()
            .filter_map(|file| way(&graph, file, |used| used == *file))
            .min_by_key(Vec::len);
        findings.extend(cycle.map(|uses| {
            let files = group.iter().copied().collect::<Vec<_>>().join(", ");
            format!("{}; files in this group: {files}", described(&uses))
        }));
    }
    findings
}

/// Every pure module that reaches an impure crate, with the way to it.
pub(super) fn impure(tree: &Tree) -> Vec<String> {
    let modules = Modules::of(tree);
    let graph = graph(&modules);
    let impure: BTreeMap<&str, Use<String>> =
        modules.paths().filter_map(|path| Some((path, impure_use(&modules, path)?))).collect();
    let mut findings = Vec::new();
    for path in graph.keys().filter(|path| is_pure(path)) {
        if let Some(used) = impure.get(path) {
            findings.push(format!("{path}:{}: uses {}", used.line, used.of));
        } else if let Some(steps) = way(&graph, path, |file| impure.contains_key(file)) {
            let last = steps.last().expect("a way has a step").used.of;
            findings.push(format!("{}, which uses {}", described(&steps), impure[last].of));
        }
    }
    findings
}

struct Step<'a> {
    from: &'a str,
    used: Use<&'a str>,
}

fn graph<'a>(modules: &Modules<'a>) -> Graph<'a> {
    modules.paths().map(|path| (path, modules.uses(path))).collect()
}

/// Files that reach each other, each group once, without files that only use others.
fn groups<'a>(graph: &Graph<'a>) -> Vec<BTreeSet<&'a str>> {
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        graph.keys().map(|path| (*path, reached(graph, path))).collect();
    let mut groups: Vec<BTreeSet<&str>> = Vec::new();
    for (path, below) in &reached {
        let known = groups.iter().any(|group| group.contains(path));
        if below.contains(path) && !known {
            let mutual = |other: &&&str| reached[**other].contains(path);
            groups.push(below.iter().filter(mutual).copied().collect());
        }
    }
    groups
}

/// Every file that `start` uses, directly or through others; itself only if a cycle leads back.
fn reached<'a>(graph: &Graph<'a>, start: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open = vec![start];
    while let Some(path) = open.pop() {
        for used in &graph[path] {
            if reached.insert(used.of) {
                open.push(used.of);
            }
        }
    }
    reached
}

/// The shortest way of uses from `start` to a file that `is_end` accepts.
fn way<'a>(graph: &Graph<'a>, start: &str, is_end: impl Fn(&str) -> bool) -> Option<Vec<Step<'a>>> {
    let (&start, _) = graph.get_key_value(start)?;
    let mut before: BTreeMap<&str, Step<'a>> = BTreeMap::new();
    let mut open = VecDeque::from([start]);
    while let Some(from) = open.pop_front() {
        for used in &graph[from] {
            let to = used.of;
            if !before.contains_key(to) {
                let used = used.clone();
                before.insert(to, Step { from, used });
                open.push_back(to);
            }
            if is_end(to) {
                return Some(steps_back(before, start, to));
            }
        }
    }
    None
}

fn steps_back<'a>(mut before: BTreeMap<&str, Step<'a>>, start: &str, end: &str) -> Vec<Step<'a>> {
    let mut steps = VecDeque::new();
    let mut at = end;
    while let Some(step) = before.remove(at) {
        at = step.from;
        steps.push_front(step);
        if at == start {
            break;
        }
    }
    steps.into()
}

/// The place of the first use, then each use of the way.
fn described(steps: &[Step<'_>]) -> String {
    let place = steps.first().map(|step| format!("{}:{}", step.from, step.used.line));
    let uses: Vec<String> = steps
        .iter()
        .map(|step| {
            let Step { from, used } = step;
            format!("{from}:{} uses {} of {}", used.line, used.written, used.of)
        })
        .collect();
    format!("{}: {}", place.unwrap_or_default(), uses.join(", "))
}

fn is_pure(path: &str) -> bool {
    PURE.iter().any(|module| {
        let rest = path.strip_prefix("chaos/src/").and_then(|rest| rest.strip_prefix(module));
        rest.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
    })
}

fn impure_use(modules: &Modules<'_>, path: &str) -> Option<Use<String>> {
    let outside = modules.outside(path);
    outside.into_iter().find(|used| {
        IMPURE.iter().any(|name| {
            let rest = used.of.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        })
    })
}
