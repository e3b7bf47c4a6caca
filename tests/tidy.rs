//! The house rules that neither compiler nor clippy can see, each a test that names file and line.
//!
//! What: who may import whom, how long a file may get, words that are never written, numbering of
//! migrations and decisions, links, tables of settings, strangers at the top level.
//! Why: a rule that nothing checks is gone within a month. A rule is a pure function of the tree's
//! texts, so that `bites` can show with a few lines of made-up tree that it fails when it should.
//! It must not judge style that rustfmt or clippy already judge.

mod bites;
mod configuration;
mod imports;
mod links;
mod tree;
mod words;

use ::dispatcher::config::settings as dispatcher;
use mock_receiver::config::settings as receiver;

use self::tree::Tree;

/// Without its tests; STYLE asks for 250.
const FILE_LINES_MAX: usize = 400;

/// What the project's specification allows beside dotfiles, and what cargo puts there.
const TOP_LEVEL: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "benches",
    "chaos",
    "dispatcher",
    "docker-compose.yml",
    "docs",
    "migrations",
    "mock-receiver",
    "target",
    "tests",
];

#[test]
fn nobody_imports_what_the_architecture_forbids() {
    assert_clean(imports::forbidden(&Tree::read()));
}

#[test]
fn no_file_is_longer_than_the_cap() {
    assert_clean(too_long(&Tree::read()));
}

#[test]
fn no_forbidden_word_is_written() {
    assert_clean(words::forbidden(&Tree::read()));
}

#[test]
fn migrations_are_numbered_and_open_with_why() {
    assert_clean(migrations(&Tree::read()));
}

#[test]
fn decisions_are_numbered_without_a_gap() {
    assert_clean(decisions(&Tree::read()));
}

#[test]
fn every_relative_link_leads_somewhere() {
    assert_clean(links::broken(&Tree::read()));
}

#[test]
fn compose_passes_only_settings_that_exist() {
    let tree = Tree::read();
    let mut findings = unknown_in_compose(&tree, "dispatcher", &settings_of_dispatcher());
    findings.extend(unknown_in_compose(
        &tree,
        "mock-receiver",
        &settings_of_receiver(),
    ));
    assert_clean(findings);
}

#[test]
fn the_top_level_has_no_stranger() {
    assert_clean(strangers(&Tree::top_level()));
}

fn assert_clean(findings: Vec<String>) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

fn settings_of_dispatcher() -> Vec<&'static str> {
    dispatcher::SETTINGS.iter().map(|row| row.name).collect()
}

fn settings_of_receiver() -> Vec<&'static str> {
    receiver::SETTINGS.iter().map(|row| row.name).collect()
}

fn too_long(tree: &Tree) -> Vec<String> {
    let lengths = tree
        .rust()
        .map(|(path, text)| (path, tree::without_tests(text).lines().count()));
    lengths
        .filter(|(_, lines)| *lines > FILE_LINES_MAX)
        .map(|(path, lines)| {
            format!("{path}:{FILE_LINES_MAX}: goes on to line {lines}; split it by what it does")
        })
        .collect()
}

fn migrations(tree: &Tree) -> Vec<String> {
    let files: Vec<_> = tree.under("migrations/").collect();
    let mut findings = numbered(files.iter().map(|(path, _)| *path), '_', ".sql");
    let silent = files
        .iter()
        .filter(|(_, text)| !text.starts_with("-- Why: "));
    findings.extend(silent.map(|(path, _)| format!("{path}:1: does not open with `-- Why: `")));
    findings
}

fn decisions(tree: &Tree) -> Vec<String> {
    let files: Vec<_> = tree.under("docs/decisions/").collect();
    let mut findings = numbered(files.iter().map(|(path, _)| *path), '-', ".md");
    let untitled = files.iter().filter(|(_, text)| !text.starts_with("# "));
    findings.extend(untitled.map(|(path, _)| format!("{path}:1: does not open with a title")));
    findings
}

/// Names like `0001-why.md`: four digits, counted from 1, none twice and none left out.
fn numbered<'a>(
    paths: impl Iterator<Item = &'a str>,
    separator: char,
    ending: &str,
) -> Vec<String> {
    let check = |(path, number): (&str, usize)| {
        let name = path.rsplit('/').next().unwrap_or(path);
        let start = format!("{number:04}{separator}");
        let fits = name.starts_with(&start) && name.ends_with(ending);
        (!fits).then(|| format!("{path}:1: is not named `{start}…{ending}`"))
    };
    paths.zip(1..).filter_map(check).collect()
}

/// Looks at the lines between the service's name and the next service.
fn unknown_in_compose(tree: &Tree, service: &str, settings: &[&str]) -> Vec<String> {
    let compose = tree.text("docker-compose.yml");
    let start = format!("  {service}:");
    let lines = compose.lines().enumerate();
    let service = lines.skip_while(|(_, line)| *line != start);
    let service = service.skip(1).take_while(|(_, line)| !is_service(line));
    let environment = service
        .skip_while(|(_, line)| line.trim() != "environment:")
        .skip(1);
    let environment = environment.take_while(|(_, line)| line.starts_with("      "));
    environment
        .filter(|(_, line)| !line.trim().starts_with('#'))
        .filter_map(|(at, line)| Some((at + 1, line.trim().split_once(':')?.0)))
        .filter(|(_, name)| !settings.contains(name))
        .map(|(at, name)| format!("docker-compose.yml:{at}: {name} is no setting"))
        .collect()
}

fn is_service(line: &str) -> bool {
    line.starts_with("  ") && line.ends_with(':') && !line.starts_with("   ")
}

fn strangers(names: &[String]) -> Vec<String> {
    let strange = |name: &&String| !name.starts_with('.') && !TOP_LEVEL.contains(&name.as_str());
    names
        .iter()
        .filter(strange)
        .map(|name| format!("{name}:1: has no place up here"))
        .collect()
}
