//! A post of a faulty client over a separate connection: one byte at a time, aborted, or without a
//! wait for the response.
//!
//! The connection is not used again. The client uses a plain socket, because an HTTP library does
//! not send incomplete requests.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::client::{API_KEY, Post, PostResult};

/// Blanks that an aborted post announces after its body and does not send. Without them, the sent
/// part could not be a valid event.
const BLANKS: usize = 16;
/// Maximum number of bytes of a response that are read.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// How a body is sent, and how long the client waits for the response.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// The pause after each byte, in milliseconds. 0 sends the body in one piece.
    pub(crate) pause_ms: u64,
    /// Where and how the post is aborted, if it is.
    pub(crate) stop: Option<Stop>,
    /// How long the client waits for the response after the last byte, in milliseconds.
    pub(crate) patience_ms: u64,
}

/// The abort of a body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stop {
    /// Share of the body that is sent, in percent. At 100, the announced blanks are still missing.
    pub(crate) at_percent: u32,
    /// The action instead of the rest.
    pub(crate) then: Then,
}

/// The action of a client instead of the rest of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Resets the connection.
    Reset,
    /// Closes the sending direction, and waits for a response.
    Close,
    /// Sends nothing more until the dispatcher ends the connection.
    Nothing,
}

impl Manner {
    /// The number of bytes of the body that are sent, if the post is aborted.
    pub(super) fn cut_at(&self, post: Post<'_>) -> Option<usize> {
        let stop = self.stop?;
        Some(post.body().len() * stop.at_percent.min(100) as usize / 100)
    }
}

/// Sends a post in this manner to the API at `api`, in the form `http://address:port`.
pub(super) async fn post(api: &str, post: Post<'_>, manner: Manner) -> PostResult {
    let address = api.strip_prefix("http://").unwrap_or(api);
    let mut stream = match TcpStream::connect(address).await {
        Ok(stream) => stream,
        Err(error) => return PostResult::Unreachable(error.to_string()),
    };
    let body = post.body();
    let cut_at = manner.cut_at(post);
    let announced = body.len() + if cut_at.is_some() { BLANKS } else { 0 };
    let head = head(address, post.key, announced);
    let bytes = &body.as_bytes()[..cut_at.unwrap_or(body.len())];
    // A connection that the dispatcher closed may still hold a response.
    let sent = send(&mut stream, head.as_bytes(), bytes, manner.pause_ms).await;
    match manner.stop.map(|stop| stop.then) {
        Some(Then::Reset) => {
            let _ = stream.set_zero_linger();
            let why = format!("reset after {} of {announced} bytes", bytes.len());
            return PostResult::Unknown(None, why);
        }
        Some(Then::Close) => {
            let _ = stream.shutdown().await;
        }
        Some(Then::Nothing) | None => {}
    }
    let patience = Duration::from_millis(manner.patience_ms);
    match timeout(patience, answer(&mut stream)).await {
        Ok(Ok(Some(answer))) => answer,
        Ok(Ok(None)) => PostResult::Unknown(None, "closed without a complete response".to_owned()),
        Ok(Err(error)) => PostResult::Unknown(None, sent.err().unwrap_or(error).to_string()),
        Err(_) => PostResult::Unknown(None, format!("given up after {} ms", manner.patience_ms)),
    }
}

fn head(host: &str, key: Option<&str>, length: usize) -> String {
    let key = key.map_or(String::new(), |key| format!("idempotency-key: {key}\r\n"));
    format!(
        "POST /events HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\
         authorization: Bearer {API_KEY}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{key}\r\n"
    )
}

async fn send(
    stream: &mut TcpStream,
    head: &[u8],
    body: &[u8],
    pause_ms: u64,
) -> Result<(), io::Error> {
    stream.set_nodelay(true)?;
    stream.write_all(head).await?;
    if pause_ms == 0 {
        return stream.write_all(body).await;
    }
    for byte in body {
        stream.write_all(&[*byte]).await?;
        sleep(Duration::from_millis(pause_ms)).await;
    }
    Ok(())
}

/// Reads the response on a connection that ends with it. Returns nothing if it is incomplete.
async fn answer(stream: &mut TcpStream) -> Result<Option<PostResult>, io::Error> {
    let mut bytes = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes).await?;
    Ok(complete(&bytes))
}

fn complete(bytes: &[u8]) -> Option<PostResult> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let body = &bytes[end + 4..];
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse::<usize>().ok())?
    });
    (length? == body.len()).then(|| PostResult::of(status, body))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use tokio::net::TcpListener;

    const POST: Post<'static> = Post { payload: "1", target: "http://r/webhook/7", key: Some("k") };
    const ACCEPTED: &str = "HTTP/1.1 202 Accepted\r\nContent-Length: 10\r\n\r\n{\"id\":\"a\"}";

    /// The request that a listener with this response got, and the result of the client.
    async fn posted(manner: Manner, response: &'static str) -> (String, PostResult) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = format!("http://{}", listener.local_addr().unwrap());
        let server = async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut got = String::new();
            let mut piece = [0; 64];
            while !is_complete(&got) {
                // A reset also ends the request.
                let Ok(1..) = stream.read(&mut piece).await.inspect(|read| {
                    got.push_str(std::str::from_utf8(&piece[..*read]).unwrap());
                }) else {
                    break;
                };
            }
            let _ = stream.write_all(response.as_bytes()).await;
            got
        };
        tokio::join!(server, post(&api, POST, manner))
    }

    fn is_complete(request: &str) -> bool {
        let Some((head, body)) = request.split_once("\r\n\r\n") else {
            return false;
        };
        let (_, length) = head.split_once("content-length: ").unwrap();
        let length: usize = length.lines().next().unwrap().parse().unwrap();
        body.len() == length
    }

    fn manner(stop: Option<Stop>) -> Manner {
        Manner { pause_ms: 0, stop, patience_ms: 60_000 }
    }

    #[test]
    fn incomplete_response_is_not_a_response() {
        assert_eq!(complete(ACCEPTED.as_bytes()), Some(PostResult::Accepted("a".into())));
        for cut in [0, 20, ACCEPTED.len() - 1] {
            assert_eq!(complete(&ACCEPTED.as_bytes()[..cut]), None, "{cut}");
        }
    }

    #[tokio::test]
    async fn aborted_body_lacks_announced_bytes_even_if_it_is_a_valid_event() {
        let stop = |at_percent| Stop { at_percent, then: Then::Close };
        for percent in [0, 50, 100] {
            let refused = "HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\nno";
            let (got, answer) = posted(manner(Some(stop(percent))), refused).await;
            let (head, body) = got.split_once("\r\n\r\n").unwrap();
            let announced = format!("content-length: {}", POST.body().len() + BLANKS);
            assert!(head.contains(&announced), "{head}");
            assert_eq!(body.len(), POST.body().len() * percent as usize / 100);
            assert!(POST.body().starts_with(body));
            assert_eq!(answer, PostResult::Refused(400, "no".into()));
        }
    }

    #[tokio::test]
    async fn reset_or_missing_patience_makes_the_result_unknown() {
        let stop = Stop { at_percent: 50, then: Then::Reset };
        let (_, answer) = posted(manner(Some(stop)), "").await;
        assert!(matches!(answer, PostResult::Unknown(None, _)), "{answer:?}");
        let hasty = Manner { patience_ms: 0, ..manner(None) };
        let (got, answer) = posted(hasty, "").await;
        assert!(got.ends_with(&POST.body()), "it was sent in full: {got}");
        assert!(matches!(answer, PostResult::Unknown(None, _)), "{answer:?}");
    }

    #[tokio::test]
    async fn body_in_single_bytes_gets_its_response() {
        let slow = Manner { pause_ms: 1, ..manner(None) };
        let (got, answer) = posted(slow, ACCEPTED).await;
        assert!(got.ends_with(&POST.body()));
        assert_eq!(answer, PostResult::Accepted("a".into()));
    }
}
