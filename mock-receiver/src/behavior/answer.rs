//! A whole answer with a status, after a delay.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::Played;
use crate::peer::{Gone, Peer};
use crate::wire;

/// The value of a `Retry-After` header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryAfter {
    /// A number of seconds.
    Seconds(u64),
    /// An HTTP date that lies this many seconds after the answer; negative is in the past.
    DateIn(i32),
    /// Any text as it is, for values that nobody should understand.
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
    let answer = match retry_after {
        Some(retry_after) => wire::whole(status, &[("retry-after", &retry_after.value())]),
        None => wire::whole(status, &[]),
    };
    peer.send(&answer).await?;
    Ok(Played::answered(status))
}
