//! Each rule on a few invented lines that break it. A rule that cannot fail proves nothing.

use super::tree::Tree;
use super::{FILE_LINES_MAX, cycles, decisions, faults, imports, links, migrations, not_permitted};
use super::{prose, too_long, unknown_in_compose, words};

/// Requires one finding per place, in order. A place is `file:line`.
#[track_caller]
fn assert_found(findings: Vec<String>, places: &[&str]) {
    assert_eq!(findings.len(), places.len(), "{findings:#?}");
    for (finding, place) in findings.iter().zip(places) {
        assert!(finding.starts_with(&format!("{place}: ")), "{finding} is not at {place}");
    }
}

#[test]
fn forbidden_imports_are_found() {
    let tree = Tree::of(&[
        (
            "chaos/src/history.rs",
            "// use dispatcher::worker;\nlet text = \"dispatcher::worker\";\n",
        ),
        ("chaos/src/nemesis.rs", "use dispatcher::worker;\nuse crate::dispatcher::Worker;\n"),
        ("chaos/src/nemesis/latency.rs", "recorder.record(Op::FaultStart(start));\n"),
        ("chaos/src/sim/worker.rs", "use dispatcher::worker;\n"),
        ("chaos/src/workload.rs", "let rng = ChaCha8Rng::seed_from_u64(1);\n"),
        ("dispatcher/src/api/post_event.rs", "\nuse crate::worker::Wake;\n"),
        ("dispatcher/src/backoff.rs", "fn f() { tokio::spawn(g()); }\n"),
        ("dispatcher/src/event.rs", "#[cfg(test)]\nmod tests { use tokio::time; }\n"),
        (
            "dispatcher/src/lib.rs",
            "use axum::Router;\nuse reqwest::Client;\nuse sqlx::PgPool;\nuse hyper_util::client::legacy;\n",
        ),
        ("dispatcher/src/target.rs", "use tokio::net::lookup_host;\n"),
        ("dispatcher/src/worker.rs", "use crate::api;\n"),
        ("mock-receiver/src/verify.rs", "use dispatcher::signature;\n"),
    ]);
    assert_found(
        imports::forbidden(&tree),
        &[
            "chaos/src/nemesis.rs:1",
            "chaos/src/nemesis/latency.rs:1",
            "chaos/src/workload.rs:1",
            "dispatcher/src/api/post_event.rs:2",
            "dispatcher/src/backoff.rs:1",
            "dispatcher/src/lib.rs:1",
            "dispatcher/src/lib.rs:2",
            "dispatcher/src/lib.rs:3",
            "dispatcher/src/lib.rs:4",
            "dispatcher/src/target.rs:1",
            "dispatcher/src/worker.rs:1",
            "mock-receiver/src/verify.rs:1",
        ],
    );
}

// `a` and `b` use each other: by a nested import, and by a path through a re-export of their
// parent, which counts for the file that defines the item.
#[test]
fn import_cycle_between_siblings_is_found() {
    let tree = Tree::of(&[
        ("chaos/src/lib.rs", "mod a;\nmod b;\npub use b::Thing;\n"),
        ("chaos/src/a.rs", "use crate::{\n    Thing as Other,\n};\nfn f() {}\n"),
        ("chaos/src/b.rs", "struct Thing;\nfn g() { super::a::f() }\n"),
    ]);
    assert_found(cycles::cycles(&tree), &["chaos/src/a.rs:2"]);
}

#[test]
fn import_cycle_of_parent_and_child_is_found() {
    let tree = Tree::of(&[
        ("benches/lib.rs", "mod a;\n"),
        ("benches/a.rs", "mod b;\nconst MAX: u8 = 1;\nfn f() { b::g() }\n"),
        ("benches/a/b.rs", "use super::*;\nfn g() {}\n"),
    ]);
    assert_found(cycles::cycles(&tree), &["benches/a.rs:3"]);
}

#[test]
fn cycle_of_three_files_is_found() {
    let tree = Tree::of(&[
        ("chaos/src/main.rs", "mod a;\nmod b;\nmod c;\n"),
        ("chaos/src/a.rs", "use crate::b;\nfn f() { b::f() }\n"),
        ("chaos/src/b.rs", "use crate::c::f as other;\nfn f() {}\n"),
        ("chaos/src/c.rs", "mod inner { fn f() { super::super::a::f() } }\nfn f() {}\n"),
    ]);
    assert_found(cycles::cycles(&tree), &["chaos/src/a.rs:2"]);
}

// None of these counts: `mod` lines, a re-export that the parent does not use itself, imports in
// tests, paths in comments and strings, and an item of another crate with the name of a module.
#[test]
fn harmless_imports_form_no_cycle() {
    let tree = Tree::of(&[
        ("dispatcher/src/lib.rs", "pub mod a;\n#[cfg(test)]\nmod tests;\n"),
        ("dispatcher/src/tests.rs", "use crate::a::Shared;\n"),
        (
            "dispatcher/src/a.rs",
            "mod b;\npub use b::Child;\npub struct Shared;\n// b::Child\nconst T: &str = \"b::Child\";\n",
        ),
        ("dispatcher/src/a/b.rs", "use super::Shared;\nuse other::a;\npub struct Child(Shared);\n"),
        ("dispatcher/src/a/c.rs", "use super::b;\n"),
    ]);
    assert_found(cycles::cycles(&tree), &[]);
}

// `history` uses sockets itself, and `plan` reaches the runtime through a module without a rule.
#[test]
fn io_in_pure_modules_is_found() {
    let tree = Tree::of(&[
        ("chaos/src/lib.rs", "mod checker;\nmod history;\nmod plan;\nmod runner;\n"),
        ("chaos/src/checker.rs", "#[cfg(test)]\nmod tests { use std::fs; }\n"),
        ("chaos/src/history.rs", "use std::{fmt, net::IpAddr};\n"),
        ("chaos/src/plan.rs", "\nuse crate::runner::Phase;\n"),
        ("chaos/src/runner.rs", "use tokio::time;\nstruct Phase;\nfn f() { time::sleep(d) }\n"),
    ]);
    assert_found(cycles::impure(&tree), &["chaos/src/history.rs:1", "chaos/src/plan.rs:2"]);
}

#[test]
fn matches_on_fault_names_are_found() {
    let tree = Tree::of(&[
        ("chaos/src/lib.rs", "mod checker;\nmod fault;\nmod history;\nmod report;\nmod up;\n"),
        ("chaos/src/checker.rs", "mod duplicates;\n#[cfg(test)]\nmod story;\n"),
        ("chaos/src/checker/story.rs", "const KIND: &str = \"net.latency\";\n"),
        ("chaos/src/history.rs", "mod op;\n"),
        ("chaos/src/fault.rs", "const KIND: &str = \"net.latency\";\n"),
        (
            "chaos/src/checker/duplicates.rs",
            "fn f() {\n    kind == \"net.latency\"\n}\n#[cfg(test)]\nmod tests { const K: &str = \"net.latency\"; }\n",
        ),
        ("chaos/src/history/op.rs", "const NAME: &str = \"worker.start\";\n"),
        (
            "chaos/src/report.rs",
            "fn f() {\n    kind.starts_with(\"postgres.\") || url.starts_with(\"postgresql://\")\n}\n",
        ),
        ("chaos/src/up.rs", "const KIND: &str = \"net.latency\";\n"),
    ]);
    assert_found(
        faults::compared(&tree),
        &["chaos/src/checker/duplicates.rs:2", "chaos/src/report.rs:2"],
    );
}

#[test]
fn vague_words_over_a_bar_are_found() {
    let plain = "// A worker claims events.\n".repeat(39);
    let tree = Tree::of(&[("a.rs", &format!("{plain}/// What it does.\nlet what = 1;\n"))]);
    assert_found(prose::over_bars(&tree), &[]);
    let tree =
        Tree::of(&[("a.rs", &format!("{plain}/// What is what.\n// So many, nobody told.\n"))]);
    assert_found(prose::over_bars(&tree), &["comments:1", "comments:1"]);
}

#[test]
fn vague_words_for_readers_are_found() {
    let code = "// anew\nfn f() { account(\"nobody\"); info!(\"sent it\nANEW\") }\n#[cfg(test)]\nmod tests { const A: &str = \"anew\"; }\n";
    let tree = Tree::of(&[
        ("README.md", "A new one.\nIt is the same, all the same.\n"),
        ("chaos/src/a.rs", code),
        ("tests/a.rs", "const A: &str = \"whoever\";\n"),
    ]);
    assert_found(words::vague(&tree), &["README.md:2", "chaos/src/a.rs:2"]);
}

#[test]
fn wide_lines_are_found() {
    let wide = "word ".repeat(21);
    let url = format!("[1]: {}", "x".repeat(100));
    let rust = format!("//! {wide}\nlet a = \"{wide}\";\n    // {}\n", "a ".repeat(46));
    let tree = Tree::of(&[("README.md", &format!("| {wide} |\n{wide}\n{url}\n")), ("a.rs", &rust)]);
    assert_found(prose::too_wide(&tree), &["a.rs:1", "README.md:2"]);
}

#[test]
fn long_test_names_are_found() {
    let name = "a".repeat(71);
    let text = format!(
        "fn {name}() {{}}\n#[test]\nfn {name}() {{}}\n#[tokio::test]\nasync fn {}() {{}}\n",
        "a".repeat(70)
    );
    let tree = Tree::of(&[("a.rs", &text)]);
    assert_found(prose::long_test_names(&tree), &["a.rs:3"]);
}

#[test]
fn docs_that_repeat_a_name_are_found() {
    let text = "/// The register's entry.\nconst A: u8 = 1;\n/// Whose.\nb: u8,\n// Its name.\n";
    let tree = Tree::of(&[("a.rs", text)]);
    assert_found(prose::empty_docs(&tree), &["a.rs:1", "a.rs:3"]);
}

#[test]
fn long_file_is_found_and_its_tests_do_not_count() {
    let at_the_limit = format!("{}#[cfg(test)]\nmod tests {{}}\n", "//\n".repeat(FILE_LINES_MAX));
    let longer = "//\n".repeat(FILE_LINES_MAX + 1);
    let tree = Tree::of(&[("a.rs", &at_the_limit), ("b.rs", &longer)]);
    assert_found(too_long(&tree), &["b.rs:400"]);
}

#[test]
fn forbidden_words_are_found() {
    let prose = concat!("Fine.\nDelivered Exactly", "-Once.\n");
    let code = concat!("#[", "ignore]\nfn f() { todo", "!() }\n// todo", "!()\n");
    let tree =
        Tree::of(&[("README.md", prose), ("tests/a.rs", code), ("chaos/src/sim/mod.rs", "")]);
    assert_found(
        words::forbidden(&tree),
        &["README.md:2", "chaos/src/sim/mod.rs:1", "tests/a.rs:1", "tests/a.rs:2"],
    );
}

#[test]
fn misnumbered_migration_or_one_without_reason_is_found() {
    let tree = Tree::of(&[
        ("migrations/0001_events.sql", "-- Why: one row an event.\n"),
        ("migrations/0002_attempts.sql", "create table attempts ();\n"),
        ("migrations/0004_index.sql", "-- Why: fast claims.\n"),
    ]);
    assert_found(
        migrations(&tree),
        &["migrations/0004_index.sql:1", "migrations/0002_attempts.sql:1"],
    );
}

#[test]
fn decision_with_a_used_number_or_no_title_is_found() {
    let tree = Tree::of(&[
        ("docs/decisions/0001-one.md", "# One\n"),
        ("docs/decisions/0001-two.md", "# Two\n"),
        ("docs/decisions/0003-three.md", "Three\n"),
    ]);
    assert_found(
        decisions(&tree),
        &["docs/decisions/0001-two.md:1", "docs/decisions/0003-three.md:1"],
    );
}

#[test]
fn broken_link_is_found() {
    let readme = "[a](docs/A.md) [b](docs/B.md)\n[c](docs/A.md#no-such)\n[d](docs/A.md#why-so)\n\
                  ```text\n[e](nowhere.md)\n```\n[f](https://example.com/x)\n";
    let tree =
        Tree::of(&[("README.md", readme), ("docs/A.md", "## Why, so?\n[up](../README.md)\n")]);
    assert_found(links::broken(&tree), &["README.md:1", "README.md:2"]);
}

#[test]
fn unknown_name_in_compose_is_found() {
    let compose = "services:\n  dispatcher:\n    environment:\n      BIND: x\n      # why: y\n\
                   \x20     BNID: x\n    ports: []\n  other:\n    environment:\n      ELSE: x\n";
    let tree = Tree::of(&[("docker-compose.yml", compose)]);
    assert_found(unknown_in_compose(&tree, "dispatcher", &["BIND"]), &["docker-compose.yml:6"]);
}

#[test]
fn unknown_name_at_the_top_is_found() {
    let names = [".env", "Cargo.toml", "notes.txt"].map(str::to_owned);
    assert_found(not_permitted(&names), &["notes.txt:1"]);
}
