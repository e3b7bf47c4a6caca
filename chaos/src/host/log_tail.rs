//! The end of a log file, quoted in error messages.

use std::path::Path;

/// Maximum number of log lines in an error message.
const LINES_MAX: usize = 20;
/// Maximum number of bytes from the end of the log in an error message.
const BYTES_MAX: usize = 16 * 1024;

/// Returns the last lines of the log at `path`, or a note that the log cannot be read. A pipe is
/// not read, because the read would wait for its writer.
pub(crate) fn log_tail(path: &Path) -> String {
    let bytes = match path.is_file() {
        true => std::fs::read(path).ok(),
        false => None,
    };
    let Some(bytes) = bytes else {
        return format!("(no log in {})", path.display());
    };
    let end = &bytes[bytes.len().saturating_sub(BYTES_MAX)..];
    let text = String::from_utf8_lossy(end);
    let lines: Vec<&str> = text.lines().collect();
    let tail = &lines[lines.len().saturating_sub(LINES_MAX)..];
    format!("end of {}:\n  {}", path.display(), tail.join("\n  "))
}
