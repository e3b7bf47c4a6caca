//! The text form of behaviors: names, descriptions, parsing, and limits that the type cannot
//! express.

use super::{Behavior, RetryAfter};

/// The text is not a behavior, or a parameter is outside its limits.
#[derive(Debug, thiserror::Error)]
pub enum BehaviorError {
    /// The text is not the JSON form of a behavior.
    #[error("not a behavior: {0}")]
    Syntax(#[from] serde_json::Error),
    /// The status code does not have three digits.
    #[error("status {0} is outside 100..=999")]
    Status(u16),
    /// A header value contains a control character, for example a line end.
    #[error("header value {0:?} contains a control character: remove it")]
    Header(String),
}

impl Behavior {
    /// Every kind with a one-line description of its response.
    pub const CATALOG: [(&'static str, &'static str); 17] = [
        ("answer", "a complete response after a delay, optionally with Retry-After"),
        ("answer_then", "a complete response, then unexpected bytes or a close"),
        ("hang", "no response; the connection stays open"),
        ("hang_after_head", "the head and the first bytes of the body, then no more bytes"),
        ("reset_before_answer", "a reset before the first byte"),
        ("close_before_answer", "a close before the first byte"),
        ("partial_head", "half of a head, then a close"),
        ("reset_mid_body", "the head and half of the body, then a reset"),
        ("truncated_body", "the head and half of the body, then a close"),
        ("reset_after_answer", "a complete response, then a reset"),
        ("drip", "a body that is sent one byte at a time"),
        ("endless_body", "an endless body, chunked or without a length"),
        ("bad_chunking", "a chunked body with an invalid chunk size"),
        ("garbage", "bytes that are not HTTP, then a close"),
        ("header_flood", "a response with a head of one mebibyte"),
        ("redirect", "a redirect to another location"),
        ("gzip_bomb", "a 64 KiB gzip body that decompresses to 64 MiB"),
    ];

    /// Returns the behavior that responds with `status` without delay.
    pub fn answer(status: u16) -> Self {
        Self::Answer { status, retry_after: None, after_ms: 0 }
    }

    /// Parses the JSON form.
    ///
    /// # Errors
    ///
    /// If the text is not a behavior, or a parameter cannot be sent.
    pub fn parse(text: &str) -> Result<Self, BehaviorError> {
        let behavior: Self = serde_json::from_str(text)?;
        behavior.validate()?;
        Ok(behavior)
    }

    /// Checks that the status has three digits and that header values have no control characters.
    ///
    /// # Errors
    ///
    /// Returns the first parameter that cannot be sent.
    pub fn validate(&self) -> Result<(), BehaviorError> {
        if let Some(status) = self.status()
            && !(100..=999).contains(&status)
        {
            return Err(BehaviorError::Status(status));
        }
        let header = match self {
            Self::Redirect { location, .. } => Some(location),
            Self::Answer { retry_after: Some(RetryAfter::Text(text)), .. }
            | Self::AnswerThen { retry_after: Some(RetryAfter::Text(text)), .. } => Some(text),
            _ => None,
        };
        match header {
            Some(text) if text.chars().any(char::is_control) => {
                Err(BehaviorError::Header(text.clone()))
            }
            _ => Ok(()),
        }
    }

    /// Returns the name of the kind in the JSON form.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Answer { .. } => "answer",
            Self::AnswerThen { .. } => "answer_then",
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

    /// Returns the status code of the response if it has one.
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
            | Self::GzipBomb { status }
            | Self::AnswerThen { status, .. } => Some(*status),
            Self::Hang { .. }
            | Self::ResetBeforeAnswer { .. }
            | Self::CloseBeforeAnswer { .. }
            | Self::PartialHead
            | Self::Garbage => None,
        }
    }
}
