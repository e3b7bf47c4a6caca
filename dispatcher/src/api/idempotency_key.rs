//! Parses the optional header `Idempotency-Key`: 1 to 255 visible ASCII characters.

use axum::http::HeaderMap;

use super::problem::Problem;

const KEY_CHARS_MAX: usize = 255;

pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Problem::bad_key("the header occurs more than once; send one key"));
    }
    let bytes = value.as_bytes();
    let is_valid =
        (1..=KEY_CHARS_MAX).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
    if !is_valid {
        return Err(Problem::bad_key(format!(
            "the key is invalid; send 1 to {KEY_CHARS_MAX} visible ASCII characters"
        )));
    }
    Ok(Some(bytes.iter().copied().map(char::from).collect()))
}
