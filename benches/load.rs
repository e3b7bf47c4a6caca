//! The client of the benchmarks: posts events over kept HTTP/1.1 connections.
//!
//! It shares the cores with the measured programs, so it must use little CPU time. This is why it
//! uses no HTTP library.

use std::net::SocketAddr;

use anyhow::{Context, bail};
use futures_util::future::try_join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Limit for a response.
const RESPONSE_BYTES_MAX: usize = 4_096;

/// A kept connection to the API.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    host: SocketAddr,
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
        Ok(Self { stream, host, request: Vec::new(), answer: Vec::new() })
    }

    /// Posts one event with a payload of about 300 bytes and waits for its 202.
    ///
    /// # Errors
    /// If the response is not 202, or the request fails.
    pub async fn post(&mut self, target_url: &str) -> anyhow::Result<()> {
        match self.try_post(target_url).await? {
            202 => Ok(()),
            status => bail!("an event was not accepted: {status}"),
        }
    }

    /// Posts one event and returns the status of the response.
    ///
    /// # Errors
    /// If there is no complete response.
    pub async fn try_post(&mut self, target_url: &str) -> anyhow::Result<u16> {
        let body =
            format!(r#"{{"target_url":"{target_url}","payload":{{"fill":"{:x<289}"}}}}"#, "");
        let (host, length) = (self.host, body.len());
        self.request.clear();
        self.request.extend_from_slice(
            format!(
                "POST /events HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n\
                 content-length: {length}\r\n\r\n{body}"
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

fn content_length(head: &str) -> Option<usize> {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    let mut lengths = lines.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    lengths.next()?.1.trim().parse().ok()
}

/// Posts `events` events over the clients to all targets. Each client posts when it has its
/// response.
///
/// # Errors
/// If a post fails: see [`Client::post`].
pub async fn post_all(
    clients: &mut [Client],
    events: u64,
    targets: &[String],
) -> anyhow::Result<()> {
    let count = clients.len() as u64;
    let posting = clients.iter_mut().zip(0_u64..).map(|(client, first)| async move {
        let mut number = first;
        while number < events {
            let index = usize::try_from(number)? % targets.len();
            client.post(&targets[index]).await?;
            number += count;
        }
        anyhow::Ok(())
    });
    try_join_all(posting).await.map(drop)
}
