//! The tables in `docs/configuration.md` are printed from the settings of both programs.

use dispatcher::config::settings as dispatcher;
use mock_receiver::config::settings as receiver;

use crate::support::tables::{Table, assert_printed};

#[test]
fn tables_of_settings_match_the_code() {
    assert_printed(
        "docs/configuration.md",
        &[
            Table { name: "settings of the dispatcher", text: dispatcher::markdown() },
            Table { name: "settings of the mock receiver", text: receiver::markdown() },
        ],
    );
}
