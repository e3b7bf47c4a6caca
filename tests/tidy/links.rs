//! Relative links in Markdown: the file and the heading must exist.

use super::tree::Tree;

/// Returns a finding for each link without a target.
pub(super) fn broken(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for (path, text) in tree.all().filter(|(path, _)| path.ends_with(".md")) {
        for (at, line) in prose(text) {
            let dead = targets(line).filter(|target| !resolves(tree, path, target));
            findings.extend(dead.map(|target| format!("{path}:{at}: {target} does not exist")));
        }
    }
    findings
}

/// Lines outside fenced code.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    (1..).zip(text.lines()).filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

fn targets(line: &str) -> impl Iterator<Item = &str> {
    let ends = line.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    ends.map(|(target, _)| target).filter(|target| !target.contains(':'))
}

fn resolves(tree: &Tree, from: &str, target: &str) -> bool {
    let (file, heading) = target.split_once('#').unwrap_or((target, ""));
    let path = if file.is_empty() { from.to_owned() } else { joined(from, file) };
    let found = heading.is_empty() || tree.text(&path).lines().any(|line| slug(line) == heading);
    tree.has(&path) && found
}

/// Path of `file`, relative to the folder of `from`.
fn joined(from: &str, file: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in file.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

/// The anchor that a code host generates for a heading. Empty for any other line.
fn slug(line: &str) -> String {
    let Some(title) = line.strip_prefix('#').map(|rest| rest.trim_start_matches('#').trim()) else {
        return String::new();
    };
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    title.to_lowercase().chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()
}
