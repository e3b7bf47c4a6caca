//! The text side of behaviors: names, one line for each, parsing, and what the type cannot check.

use super::{Behavior, RetryAfter};

/// A text that names no behavior, or one with a parameter out of its limits.
#[derive(Debug, thiserror::Error)]
pub enum BehaviorError {
    /// Not the JSON form of a behavior.
    #[error("not a behavior: {0}")]
    Syntax(#[from] serde_json::Error),
    /// The status code has no three digits.
    #[error("status {0} is not within 100..=999")]
    Status(u16),
    /// A header value that would break out of its line.
    #[error("header value {0:?} has a character that a header cannot carry")]
    Header(String),
}

impl Behavior {
    /// Every kind with one line that says what it does on the wire.
    pub const CATALOG: [(&'static str, &'static str); 16] = [
        (
            "answer",
            "a whole answer with a status, after a delay, with Retry-After if asked",
        ),
        ("hang", "no byte of an answer; holds the connection"),
        (
            "hang_after_head",
            "the head and a few bytes of the body, then silence",
        ),
        (
            "reset_before_answer",
            "resets the connection before any byte",
        ),
        (
            "close_before_answer",
            "closes the connection before any byte",
        ),
        ("partial_head", "half of a head, then a close"),
        (
            "reset_mid_body",
            "the head and half of the body, then a reset",
        ),
        (
            "truncated_body",
            "the head and half of the body, then a close",
        ),
        ("reset_after_answer", "a whole answer, then a reset"),
        ("drip", "a body that comes one byte at a time"),
        (
            "endless_body",
            "a body without end, chunked or without a length",
        ),
        ("bad_chunking", "a chunked body with a broken chunk size"),
        ("garbage", "bytes that are not HTTP, then a close"),
        ("header_flood", "an answer under a head of a megabyte"),
        ("redirect", "an answer that points elsewhere"),
        ("gzip_bomb", "a small gzip body that unpacks to 64 MiB"),
    ];

    /// A whole answer with `status` at once.
    pub fn answer(status: u16) -> Self {
        Self::Answer {
            status,
            retry_after: None,
            after_ms: 0,
        }
    }

    /// Reads the JSON form.
    ///
    /// # Errors
    ///
    /// When the text is no behavior or a parameter could not be put on the wire.
    pub fn parse(text: &str) -> Result<Self, BehaviorError> {
        let behavior: Self = serde_json::from_str(text)?;
        behavior.validate()?;
        Ok(behavior)
    }

    /// Checks what the type cannot: statuses have three digits, header values stay on their line.
    ///
    /// # Errors
    ///
    /// Names the first parameter that could not be put on the wire.
    pub fn validate(&self) -> Result<(), BehaviorError> {
        if let Some(status) = self.status()
            && !(100..=999).contains(&status)
        {
            return Err(BehaviorError::Status(status));
        }
        let header = match self {
            Self::Redirect { location, .. } => Some(location),
            Self::Answer {
                retry_after: Some(RetryAfter::Text(text)),
                ..
            } => Some(text),
            _ => None,
        };
        match header {
            Some(text) if text.chars().any(char::is_control) => {
                Err(BehaviorError::Header(text.clone()))
            }
            _ => Ok(()),
        }
    }

    /// The name of the kind, as in the JSON form.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Answer { .. } => "answer",
            Self::Hang { .. } => "hang",
            Self::HangAfterHead { .. } => "hang_after_head",
            Self::ResetBeforeAnswer { .. } => "reset_before_answer",
            Self::CloseBeforeAnswer { .. } => "close_before_answer",
            Self::PartialHead => "partial_head",
            Self::ResetMidBody { .. } => "reset_mid_body",
            Self::TruncatedBody { .. } => "truncated_body",
            Self::ResetAfterAnswer { .. } => "reset_after_answer",
            Self::Drip { .. } => "drip",
            Self::EndlessBody { .. } => "endless_body",
            Self::BadChunking { .. } => "bad_chunking",
            Self::Garbage => "garbage",
            Self::HeaderFlood { .. } => "header_flood",
            Self::Redirect { .. } => "redirect",
            Self::GzipBomb { .. } => "gzip_bomb",
        }
    }

    /// The status code that goes on the wire, when one does.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Answer { status, .. }
            | Self::HangAfterHead { status, .. }
            | Self::ResetMidBody { status }
            | Self::TruncatedBody { status }
            | Self::ResetAfterAnswer { status, .. }
            | Self::Drip { status, .. }
            | Self::EndlessBody { status, .. }
            | Self::BadChunking { status }
            | Self::HeaderFlood { status, .. }
            | Self::Redirect { status, .. }
            | Self::GzipBomb { status } => Some(*status),
            Self::Hang { .. }
            | Self::ResetBeforeAnswer { .. }
            | Self::CloseBeforeAnswer { .. }
            | Self::PartialHead
            | Self::Garbage => None,
        }
    }
}
