//! Rules of the source tree that neither the compiler nor clippy checks.
//!
//! Each rule is a pure function from the texts of the tree to findings with file and line, so that
//! `bites` can show on an invented tree that the rule fails when it should. Rules that rustfmt and
//! clippy check have no place here.

mod bites;
mod configuration;
mod cycles;
mod faults;
mod imports;
mod links;
mod modules;
mod paths;
mod prose;
mod tokens;
mod tree;
mod words;

use ::dispatcher::config::settings as dispatcher;
use mock_receiver::config::settings as receiver;

use self::tree::Tree;

/// Limit without tests. STYLE.md recommends 250.
const FILE_LINES_MAX: usize = 400;

/// Permitted names at the top level, beside dotfiles: those of the specification and of cargo.
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
fn no_import_breaks_the_architecture() {
    assert_clean(imports::forbidden(&Tree::read()));
}

#[test]
fn files_form_no_import_cycle() {
    assert_clean(cycles::cycles(&Tree::read()));
}

#[test]
fn plans_and_checkers_reach_no_io() {
    assert_clean(cycles::impure(&Tree::read()));
}

#[test]
fn no_fault_is_matched_by_its_name() {
    let tree = Tree::read();
    assert!(faults::kinds(&tree).len() >= 20, "fault kinds were not found");
    assert_clean(faults::compared(&tree));
}

#[test]
fn no_file_is_longer_than_the_limit() {
    assert_clean(too_long(&Tree::read()));
}

#[test]
fn no_forbidden_word_is_used() {
    assert_clean(words::forbidden(&Tree::read()));
}

#[test]
fn texts_for_readers_have_no_vague_word() {
    assert_clean(words::vague(&Tree::read()));
}

#[test]
fn comments_stay_below_the_bars_for_vague_words() {
    assert_clean(prose::over_bars(&Tree::read()));
}

#[test]
fn comments_and_markdown_have_at_most_100_columns() {
    assert_clean(prose::too_wide(&Tree::read()));
}

#[test]
fn test_names_have_at_most_70_characters() {
    assert_clean(prose::long_test_names(&Tree::read()));
}

#[test]
fn no_doc_comment_only_repeats_a_name() {
    assert_clean(prose::empty_docs(&Tree::read()));
}

#[test]
fn migrations_are_numbered_and_start_with_a_reason() {
    assert_clean(migrations(&Tree::read()));
}

#[test]
fn decisions_are_numbered_without_a_gap() {
    assert_clean(decisions(&Tree::read()));
}

#[test]
fn every_relative_link_has_a_target() {
    assert_clean(links::broken(&Tree::read()));
}

#[test]
fn compose_passes_only_settings_that_exist() {
    let tree = Tree::read();
    let mut findings = unknown_in_compose(&tree, "dispatcher", &settings_of_dispatcher());
    findings.extend(unknown_in_compose(&tree, "mock-receiver", &settings_of_receiver()));
    assert_clean(findings);
}

#[test]
fn top_level_has_only_permitted_names() {
    assert_clean(not_permitted(&Tree::top_level()));
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
    let lengths = tree.rust().map(|(path, text)| (path, tree::without_tests(text).lines().count()));
    lengths
        .filter(|(_, lines)| *lines > FILE_LINES_MAX)
        .map(|(path, lines)| {
            format!("{path}:{FILE_LINES_MAX}: has {lines} lines; split it by responsibility")
        })
        .collect()
}

fn migrations(tree: &Tree) -> Vec<String> {
    let files: Vec<_> = tree.under("migrations/").collect();
    let mut findings = numbered(files.iter().map(|(path, _)| *path), '_', ".sql");
    let without_reason = files.iter().filter(|(_, text)| !text.starts_with("-- Why: "));
    findings.extend(
        without_reason.map(|(path, _)| format!("{path}:1: does not start with `-- Why: `")),
    );
    findings
}

fn decisions(tree: &Tree) -> Vec<String> {
    let files: Vec<_> = tree.under("docs/decisions/").collect();
    let mut findings = numbered(files.iter().map(|(path, _)| *path), '-', ".md");
    let untitled = files.iter().filter(|(_, text)| !text.starts_with("# "));
    findings.extend(untitled.map(|(path, _)| format!("{path}:1: does not start with a title")));
    findings
}

/// Checks names such as `0001-why.md`: four digits, counted from 1, without duplicates and gaps.
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

/// Reads the lines between the name of the service and the next service.
fn unknown_in_compose(tree: &Tree, service: &str, settings: &[&str]) -> Vec<String> {
    let compose = tree.text("docker-compose.yml");
    let start = format!("  {service}:");
    let lines = compose.lines().enumerate();
    let service = lines.skip_while(|(_, line)| *line != start);
    let service = service.skip(1).take_while(|(_, line)| !is_service(line));
    let environment = service.skip_while(|(_, line)| line.trim() != "environment:").skip(1);
    let environment = environment.take_while(|(_, line)| line.starts_with("      "));
    environment
        .filter(|(_, line)| !line.trim().starts_with('#'))
        .filter_map(|(at, line)| Some((at + 1, line.trim().split_once(':')?.0)))
        .filter(|(_, name)| !settings.contains(name))
        .map(|(at, name)| format!("docker-compose.yml:{at}: {name} is not a setting"))
        .collect()
}

fn is_service(line: &str) -> bool {
    line.starts_with("  ") && line.ends_with(':') && !line.starts_with("   ")
}

fn not_permitted(names: &[String]) -> Vec<String> {
    let is_unknown = |name: &&String| !name.starts_with('.') && !TOP_LEVEL.contains(&name.as_str());
    names
        .iter()
        .filter(is_unknown)
        .map(|name| format!("{name}:1: is not permitted at the top level"))
        .collect()
}
