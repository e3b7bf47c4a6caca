//! A complete response after a delay.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::played::Played;
use crate::peer::{Gone, Peer};
use crate::wire;

/// Value of a `Retry-After` header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryAfter {
    /// A number of seconds.
    Seconds(u64),
    /// An HTTP date this number of seconds after the response. A negative number is in the past.
    DateIn(i32),
    /// Any text, for invalid values.
    Text(String),
}

impl RetryAfter {
    fn value(&self) -> String {
        match self {
            Self::Seconds(seconds) => seconds.to_string(),
            Self::DateIn(seconds) => {
                let due = Utc::now() + TimeDelta::seconds(i64::from(*seconds));
                due.format("%a, %d %b %Y %H:%M:%S GMT").to_string()
            }
            Self::Text(text) => text.clone(),
        }
    }
}

pub(super) async fn play(
    peer: &mut Peer,
    status: u16,
    retry_after: Option<&RetryAfter>,
    after_ms: u64,
) -> Result<Played, Gone> {
    peer.pause(Duration::from_millis(after_ms)).await?;
    let response = match retry_after {
        Some(retry_after) => wire::response(status, &[("retry-after", &retry_after.value())]),
        None => wire::response(status, &[]),
    };
    peer.send(&response).await?;
    Ok(Played::answered(status))
}
