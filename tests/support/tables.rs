//! Tables in the documents that the code prints.

use std::path::Path;

/// Environment variable that makes the tests write the tables instead of comparing them.
const REWRITE: &str = "REWRITE_TABLES";

/// One printed table. In the document it stands between two comment lines that name it.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) text: String,
}

/// Compares the tables of a document with the code. With [`REWRITE`], writes the document.
///
/// # Panics
/// If the document differs. The message contains the command that writes the tables.
#[track_caller]
pub(crate) fn assert_printed(document: &str, tables: &[Table]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(document);
    let written = std::fs::read_to_string(&path).unwrap();
    let printed = tables.iter().fold(written.clone(), replaced);
    if std::env::var_os(REWRITE).is_some() {
        std::fs::write(&path, printed).unwrap();
        return;
    }
    assert!(
        written == printed,
        "{document} differs from the code: run {REWRITE}=1 cargo test -p proofs tables"
    );
}

/// Returns the text with this table between its comment lines.
fn replaced(text: String, table: &Table) -> String {
    let begin = format!("<!-- {}: written from the code -->\n", table.name);
    let (before, rest) = text.split_once(&begin).unwrap();
    let (_, after) = rest.split_once("<!-- end -->").unwrap();
    format!("{before}{begin}{}<!-- end -->{after}", table.text)
}
