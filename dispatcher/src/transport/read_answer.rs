//! Reads an answer to its end, within its bound, and says what it was.

use std::time::Duration;

use chrono::{DateTime, Utc};
use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::Incoming;
use hyper::header::{HeaderMap, RETRY_AFTER};

use super::classify;
use crate::event::{AttemptResult, Outcome};

/// How much of an answer is read and kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct AnswerLimits {
    /// `MAX_RESPONSE_BYTES`, on the wire.
    pub(super) response_bytes_max: usize,
    /// `RESPONSE_SNIPPET_BYTES`.
    pub(super) snippet_bytes_max: usize,
}

/// The whole answer, or why there is none. `now` is the database's clock when it is called.
pub(super) async fn read_answer(
    mut response: Response<Incoming>,
    limits: AnswerLimits,
    now: impl Fn() -> DateTime<Utc>,
) -> AttemptResult {
    let status = response.status().as_u16();
    let mut snippet = Vec::new();
    let mut bytes = 0_usize;
    loop {
        match response.frame().await {
            Some(Ok(frame)) => {
                // Trailers are nobody's concern here.
                let chunk = frame.into_data().unwrap_or_default();
                let room = limits.snippet_bytes_max.saturating_sub(snippet.len());
                snippet.extend_from_slice(&chunk[..room.min(chunk.len())]);
                bytes += chunk.len();
                if bytes > limits.response_bytes_max {
                    let error = format!("the answer is over {} bytes", limits.response_bytes_max);
                    let outcome = Outcome::ResponseTooLarge { status };
                    return AttemptResult {
                        outcome,
                        error: Some(error),
                        snippet: Some(snippet),
                    };
                }
            }
            None => break,
            Some(Err(error)) => {
                let error = Some(classify::describe(&error));
                return AttemptResult {
                    outcome: Outcome::Body,
                    error,
                    snippet: Some(snippet),
                };
            }
        }
    }
    let outcome = if (200..300).contains(&status) {
        Outcome::Delivered { status }
    } else {
        Outcome::Rejected {
            status,
            retry_after: retry_after(response.headers(), now()),
        }
    };
    AttemptResult {
        outcome,
        error: None,
        snippet: Some(snippet),
    }
}

/// `Retry-After` in either form (RFC 9110, section 10.2.3); past, negative and unreadable ones are ignored.
fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are still a wish for a long wait, which the cap will cut.
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
    fn retry_after_is_read_in_both_forms_and_nonsense_is_ignored() {
        let now = "2026-11-24T10:00:00Z".parse().unwrap();
        let read = |text: &str| {
            let headers = [(RETRY_AFTER, text.parse().unwrap())].into_iter().collect();
            retry_after(&headers, now).map(|wish| wish.as_secs())
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
