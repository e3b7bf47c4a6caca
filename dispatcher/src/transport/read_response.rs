//! Reads a response to its end within a size limit, and derives the outcome of the attempt.

use std::time::Duration;

use chrono::{DateTime, Utc};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{HeaderMap, RETRY_AFTER};
use hyper::http::response::Parts;

use super::error::describe;
use crate::event::{AttemptResult, Outcome};

/// Size limits of a response.
#[derive(Clone, Copy, Debug)]
pub(super) struct ResponseLimits {
    /// `MAX_RESPONSE_BYTES`, counted as transferred: no content encoding is decoded.
    pub(super) response_bytes_max: usize,
    /// `RESPONSE_SNIPPET_BYTES`.
    pub(super) snippet_bytes_max: usize,
}

/// Reads the body and returns the result of the attempt. `now` returns the time of the database's
/// clock, for a `Retry-After` date.
pub(super) async fn read_response(
    head: &Parts,
    mut body: Incoming,
    limits: ResponseLimits,
    now: impl Fn() -> DateTime<Utc>,
) -> AttemptResult {
    let status = head.status.as_u16();
    let mut snippet = Vec::new();
    let mut bytes = 0_usize;
    let ended = |outcome, error, snippet| AttemptResult { outcome, error, snippet: Some(snippet) };
    while let Some(frame) = body.frame().await {
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => return ended(Outcome::Body, Some(describe(&error)), snippet),
        };
        // A trailer frame contains no data and counts as 0 bytes.
        let chunk = frame.into_data().unwrap_or_default();
        let room = limits.snippet_bytes_max.saturating_sub(snippet.len());
        snippet.extend_from_slice(&chunk[..room.min(chunk.len())]);
        bytes += chunk.len();
        let bytes_max = limits.response_bytes_max;
        if bytes > bytes_max {
            let error = format!("the response is larger than MAX_RESPONSE_BYTES={bytes_max}");
            return ended(Outcome::ResponseTooLarge { status }, Some(error), snippet);
        }
    }
    let outcome = if (200..300).contains(&status) {
        Outcome::Delivered { status }
    } else {
        Outcome::Rejected { status, retry_after: retry_after(&head.headers, now()) }
    };
    ended(outcome, None, snippet)
}

/// Returns the requested delay in either form of `Retry-After` (RFC 9110, section 10.2.3). A date
/// in the past, a negative number or any other text is ignored.
fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number over 64 bits is a very long requested delay. RETRY_AFTER_CAP_SECONDS limits it.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let at = DateTime::<Utc>::from(httpdate::parse_http_date(text).ok()?);
    (at - now).to_std().ok()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let now = "2026-11-24T10:00:00Z".parse().unwrap();
        let read = |text: &str| {
            let headers = [(RETRY_AFTER, text.parse().unwrap())].into_iter().collect();
            retry_after(&headers, now).map(|delay| delay.as_secs())
        };
        assert_eq!(read("120"), Some(120));
        assert_eq!(read("0"), Some(0));
        assert_eq!(read("99999999999999999999999"), Some(u64::MAX));
        assert_eq!(read("Tue, 24 Nov 2026 10:01:00 GMT"), Some(60));
        assert_eq!(read("Tuesday, 24-Nov-26 10:01:00 GMT"), Some(60));
        assert_eq!(read("Tue Nov 24 10:01:00 2026"), Some(60));
        for ignored in ["-5", "1.5", "soon", "", "Tue, 24 Nov 2026 09:59:00 GMT"] {
            assert_eq!(read(ignored), None, "{ignored:?}");
        }
    }
}
