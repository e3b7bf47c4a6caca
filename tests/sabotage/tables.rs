//! The tables in `docs/checkers.md` are printed from the lists of checkers and saboteurs.

use chaos::saboteur::table;

use crate::support::tables::{Table, assert_printed};

#[test]
fn tables_of_checkers_and_saboteurs_match_the_code() {
    assert_printed(
        "docs/checkers.md",
        &[
            Table { name: "checkers", text: table::checkers() },
            Table { name: "saboteurs", text: table::saboteurs() },
        ],
    );
}
