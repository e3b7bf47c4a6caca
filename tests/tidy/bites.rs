//! Each rule over a few made-up lines that break it: a rule that cannot fail proves nothing.

use super::tree::Tree;
use super::{FILE_LINES_MAX, decisions, imports, links, migrations, strangers};
use super::{too_long, unknown_in_compose, words};

/// One finding a file, and it names that file and line.
#[track_caller]
fn assert_found(findings: Vec<String>, places: &[&str]) {
    assert_eq!(findings.len(), places.len(), "{findings:#?}");
    for (finding, place) in findings.iter().zip(places) {
        assert!(
            finding.starts_with(&format!("{place}: ")),
            "{finding} is not at {place}"
        );
    }
}

#[test]
fn imports_across_a_border_are_found() {
    let tree = Tree::of(&[
        (
            "chaos/src/checker/no_loss.rs",
            "use tokio::time;\nuse std::fs;\n",
        ),
        (
            "chaos/src/history.rs",
            "// use tokio::time;\nlet said = \"sqlx::query\";\n",
        ),
        (
            "chaos/src/nemesis.rs",
            "use dispatcher::worker;\nuse crate::dispatcher::Worker;\n",
        ),
        ("chaos/src/sim/worker.rs", "use dispatcher::worker;\n"),
        (
            "chaos/src/workload.rs",
            "let rng = ChaCha8Rng::seed_from_u64(1);\n",
        ),
        (
            "dispatcher/src/api/post_event.rs",
            "\nuse crate::worker::Wake;\n",
        ),
        (
            "dispatcher/src/backoff.rs",
            "fn f() { tokio::spawn(g()); }\n",
        ),
        (
            "dispatcher/src/event.rs",
            "#[cfg(test)]\nmod tests { use tokio::time; }\n",
        ),
        (
            "dispatcher/src/lib.rs",
            "use axum::Router;\nuse reqwest::Client;\nuse sqlx::PgPool;\nuse hyper_util::client::legacy;\n",
        ),
        ("dispatcher/src/worker.rs", "use crate::api;\n"),
        (
            "mock-receiver/src/verify.rs",
            "use dispatcher::signature;\n",
        ),
    ]);
    assert_found(
        imports::forbidden(&tree),
        &[
            "chaos/src/checker/no_loss.rs:1",
            "chaos/src/checker/no_loss.rs:2",
            "chaos/src/nemesis.rs:1",
            "chaos/src/workload.rs:1",
            "dispatcher/src/api/post_event.rs:2",
            "dispatcher/src/backoff.rs:1",
            "dispatcher/src/lib.rs:1",
            "dispatcher/src/lib.rs:2",
            "dispatcher/src/lib.rs:3",
            "dispatcher/src/lib.rs:4",
            "dispatcher/src/worker.rs:1",
            "mock-receiver/src/verify.rs:1",
        ],
    );
}

#[test]
fn a_file_over_the_cap_is_found_and_its_tests_do_not_count() {
    let at_the_cap = format!(
        "{}#[cfg(test)]\nmod tests {{}}\n",
        "//\n".repeat(FILE_LINES_MAX)
    );
    let over = "//\n".repeat(FILE_LINES_MAX + 1);
    let tree = Tree::of(&[("a.rs", &at_the_cap), ("b.rs", &over)]);
    assert_found(too_long(&tree), &["b.rs:400"]);
}

#[test]
fn forbidden_words_are_found() {
    let prose = concat!("Fine.\nDelivered Exactly", "-Once.\n");
    let code = concat!("#[", "ignore]\nfn f() { todo", "!() }\n// todo", "!()\n");
    let tree = Tree::of(&[
        ("README.md", prose),
        ("tests/a.rs", code),
        ("chaos/src/sim/mod.rs", ""),
    ]);
    assert_found(
        words::forbidden(&tree),
        &[
            "README.md:2",
            "chaos/src/sim/mod.rs:1",
            "tests/a.rs:1",
            "tests/a.rs:2",
        ],
    );
}

#[test]
fn a_migration_out_of_order_or_without_why_is_found() {
    let tree = Tree::of(&[
        ("migrations/0001_events.sql", "-- Why: one row an event.\n"),
        (
            "migrations/0002_attempts.sql",
            "create table attempts ();\n",
        ),
        ("migrations/0004_index.sql", "-- Why: fast claims.\n"),
    ]);
    assert_found(
        migrations(&tree),
        &[
            "migrations/0004_index.sql:1",
            "migrations/0002_attempts.sql:1",
        ],
    );
}

#[test]
fn a_decision_with_a_taken_number_or_no_title_is_found() {
    let tree = Tree::of(&[
        ("docs/decisions/0001-one.md", "# One\n"),
        ("docs/decisions/0001-two.md", "# Two\n"),
        ("docs/decisions/0003-three.md", "Three\n"),
    ]);
    assert_found(
        decisions(&tree),
        &[
            "docs/decisions/0001-two.md:1",
            "docs/decisions/0003-three.md:1",
        ],
    );
}

#[test]
fn a_link_to_nowhere_is_found() {
    let readme = "[a](docs/A.md) [b](docs/B.md)\n[c](docs/A.md#no-such)\n[d](docs/A.md#why-so)\n\
                  ```text\n[e](nowhere.md)\n```\n[f](https://example.com/x)\n";
    let tree = Tree::of(&[
        ("README.md", readme),
        ("docs/A.md", "## Why, so?\n[up](../README.md)\n"),
    ]);
    assert_found(links::broken(&tree), &["README.md:1", "README.md:2"]);
}

#[test]
fn an_unknown_name_in_compose_is_found() {
    let compose = "services:\n  dispatcher:\n    environment:\n      BIND: x\n      # why: y\n\
                   \x20     BNID: x\n    ports: []\n  other:\n    environment:\n      ELSE: x\n";
    let tree = Tree::of(&[("docker-compose.yml", compose)]);
    assert_found(
        unknown_in_compose(&tree, "dispatcher", &["BIND"]),
        &["docker-compose.yml:6"],
    );
}

#[test]
fn a_stranger_at_the_top_is_found() {
    let names = [".env", "Cargo.toml", "notes.txt"].map(str::to_owned);
    assert_found(strangers(&names), &["notes.txt:1"]);
}
