//! The client of the benchmarks: posts events over kept HTTP/1.1 connections.
//!
//! It shares the cores with the measured programs, so it must use little CPU time. This is why it
//! uses no HTTP library.

use std::net::SocketAddr;

use anyhow::{Context, bail};
use futures_util::future::try_join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

/// Payload of an event in bytes, unless a benchmark chooses another size.
pub const PAYLOAD_BYTES: usize = 300;
/// Bytes of a payload around its filling.
const FRAME_BYTES: usize = r#"{"fill":""}"#.len();
/// Limit for a response.
const RESPONSE_BYTES_MAX: usize = 4_096;

/// A kept connection to the API.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    host: SocketAddr,
    payload: String,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Client {
    /// Connects to the API.
    ///
    /// # Errors
    /// If the connection fails.
    pub async fn connect(host: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(host).await?;
        stream.set_nodelay(true)?;
        let payload = payload(PAYLOAD_BYTES);
        Ok(Self { stream, host, payload, request: Vec::new(), answer: Vec::new() })
    }

    /// Replaces the payload by one of this size.
    #[must_use]
    pub fn with_payload(mut self, bytes: usize) -> Self {
        self.payload = payload(bytes);
        self
    }

    /// Posts one event and waits for its 202.
    ///
    /// # Errors
    /// If the response is not 202, or the request fails.
    pub async fn post(&mut self, target_url: &str) -> anyhow::Result<()> {
        accepted(self.send(target_url, None).await?)
    }

    /// Posts one event with an idempotency key and waits for its 202.
    ///
    /// # Errors
    /// If the response is not 202, or the request fails.
    pub async fn post_keyed(&mut self, target_url: &str, key: &str) -> anyhow::Result<()> {
        accepted(self.send(target_url, Some(key)).await?)
    }

    /// Posts one event and returns the status of the response.
    ///
    /// # Errors
    /// If there is no complete response.
    pub async fn try_post(&mut self, target_url: &str) -> anyhow::Result<u16> {
        self.send(target_url, None).await
    }

    async fn send(&mut self, target_url: &str, key: Option<&str>) -> anyhow::Result<u16> {
        let (host, payload) = (self.host, &self.payload);
        let body = format!(r#"{{"target_url":"{target_url}","payload":{payload}}}"#);
        let key = key.map_or(String::new(), |key| format!("idempotency-key: {key}\r\n"));
        let length = body.len();
        self.request.clear();
        self.request.extend_from_slice(
            format!(
                "POST /events HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n\
                 {key}content-length: {length}\r\n\r\n{body}"
            )
            .as_bytes(),
        );
        self.stream.write_all(&self.request).await?;
        let answer = self.answer().await?;
        let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
        status.with_context(|| format!("the response is not HTTP: {answer}"))
    }

    /// Sends a GET request and returns the body.
    ///
    /// # Errors
    /// If there is no complete response.
    pub async fn get(host: SocketAddr, path: &str) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(host).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    /// Reads one response of the length in its `content-length`.
    async fn answer(&mut self) -> anyhow::Result<&str> {
        self.answer.clear();
        loop {
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                bail!("the connection was closed without a response");
            }
            if self.answer.len() > RESPONSE_BYTES_MAX {
                bail!("the response has more than {RESPONSE_BYTES_MAX} bytes");
            }
            let text = std::str::from_utf8(&self.answer).context("the response is not text")?;
            if let Some((head, body)) = text.split_once("\r\n\r\n")
                && content_length(head).is_some_and(|length| body.len() >= length)
            {
                break;
            }
        }
        Ok(std::str::from_utf8(&self.answer)?)
    }
}

/// A JSON text of this number of bytes.
pub fn payload(bytes: usize) -> String {
    format!(r#"{{"fill":"{}"}}"#, "x".repeat(bytes.saturating_sub(FRAME_BYTES)))
}

fn accepted(status: u16) -> anyhow::Result<()> {
    anyhow::ensure!(status == 202, "an event was not accepted: {status}");
    Ok(())
}

/// Value of the header `content-length` of a request or response.
pub fn content_length(head: &str) -> Option<usize> {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    let mut lengths = lines.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    lengths.next()?.1.trim().parse().ok()
}

/// The events of a load.
#[derive(Clone, Copy, Debug)]
pub struct Posts<'a> {
    /// Number of events.
    pub events: u64,
    /// The targets, in turn.
    pub targets: &'a [String],
    /// Each event has an idempotency key of its own.
    pub keyed: bool,
}

/// Posts events over the clients. Each client posts when it has its response.
///
/// # Errors
/// If a post fails: see [`Client::post`].
pub async fn post_all(clients: &mut [Client], posts: Posts<'_>) -> anyhow::Result<()> {
    let count = clients.len() as u64;
    let keys = Uuid::new_v4().simple().to_string();
    let keys = &keys;
    let posting = clients.iter_mut().zip(0_u64..).map(|(client, first)| async move {
        let mut number = first;
        while number < posts.events {
            let target = &posts.targets[usize::try_from(number)? % posts.targets.len()];
            if posts.keyed {
                client.post_keyed(target, &format!("{keys}-{number}")).await?;
            } else {
                client.post(target).await?;
            }
            number += count;
        }
        anyhow::Ok(())
    });
    try_join_all(posting).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_has_the_given_size() {
        assert_eq!([300, 4_096].map(|bytes| payload(bytes).len()), [300, 4_096]);
    }

    #[test]
    fn content_length_is_found_in_any_case() {
        let head = "POST / HTTP/1.1\r\nhost: a:1\r\nContent-Length: 17";
        assert_eq!(content_length(head), Some(17));
        assert_eq!(content_length("HTTP/1.1 204 No Content"), None);
    }
}
