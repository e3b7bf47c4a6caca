//! The tables of docs/checkers.md say what the registers say.

use std::path::Path;

use chaos::saboteur::table;

/// What rewrites the tables instead of comparing them.
const REWRITE: &str = "REWRITE_TABLES";

/// The text with what stands between a table's marks replaced.
fn with_table(text: &str, name: &str, table: &str) -> String {
    let begin = format!("<!-- {name}: written from the registers -->\n");
    let (before, rest) = text.split_once(&begin).unwrap();
    let (_, after) = rest.split_once("<!-- end -->").unwrap();
    format!("{before}{begin}{table}<!-- end -->{after}")
}

#[test]
fn the_tables_of_checkers_and_saboteurs_are_written_from_their_registers() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/checkers.md");
    let written = std::fs::read_to_string(&path).unwrap();
    let fresh = with_table(&written, "checkers", &table::checkers());
    let fresh = with_table(&fresh, "saboteurs", &table::saboteurs());
    if std::env::var_os(REWRITE).is_some() {
        std::fs::write(&path, fresh).unwrap();
        return;
    }
    assert!(
        written == fresh,
        "docs/checkers.md is stale: run {REWRITE}=1 cargo test -p proofs tables"
    );
}
