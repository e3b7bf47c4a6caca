//! A post over a connection of its own, sent as a bad client sends it: a byte at a time, not to its
//! end, or given up before the answer.
//!
//! Such a client is retired with its post: its connection is never used again. It speaks over a plain
//! socket, because what it does is what a well-behaved HTTP client never would.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::client::{Answer, Post};

/// Blanks that are announced after the body of a post that is broken off, and never sent: without them
/// the last place to break off would be one byte before its end, where it cannot be a whole event.
const BLANKS: usize = 16;
/// Bytes of an answer that are read at most.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// How a body is sent, and how long its answer is waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// The pause after each byte, in milliseconds; 0 for a body in one piece.
    pub(crate) pause_ms: u64,
    /// Where and how it is broken off; nothing for a whole one.
    pub(crate) stop: Option<Stop>,
    /// How long the answer is waited for after the last byte, in milliseconds.
    pub(crate) patience_ms: u64,
}

/// The end of a body before its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stop {
    /// How much of the body is sent, in percent: all of it still lacks the blanks that were announced.
    pub(crate) at_percent: u32,
    /// What comes instead of the rest.
    pub(crate) then: Then,
}

/// What comes instead of the rest of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// The connection is reset.
    Reset,
    /// The client says that nothing more comes, and waits for an answer.
    Close,
    /// Nothing, until the dispatcher ends it.
    Nothing,
}

impl Manner {
    /// How many bytes of the body of `post` are sent, when it is broken off.
    pub(super) fn cut_at(&self, post: Post<'_>) -> Option<usize> {
        let stop = self.stop?;
        Some(post.body().len() * stop.at_percent.min(100) as usize / 100)
    }
}

/// Sends a post in this manner to the API at `api`, which is `http://address:port`.
pub(super) async fn post(api: &str, post: Post<'_>, manner: Manner) -> Answer {
    let address = api.strip_prefix("http://").unwrap_or(api);
    let mut stream = match TcpStream::connect(address).await {
        Ok(stream) => stream,
        Err(error) => return Answer::Unreachable(error.to_string()),
    };
    let body = post.body();
    let cut_at = manner.cut_at(post);
    let announced = body.len() + if cut_at.is_some() { BLANKS } else { 0 };
    let head = head(address, post.key, announced);
    let bytes = &body.as_bytes()[..cut_at.unwrap_or(body.len())];
    // A connection that is closed on us may hold an answer all the same.
    let sent = send(&mut stream, head.as_bytes(), bytes, manner.pause_ms).await;
    match manner.stop.map(|stop| stop.then) {
        Some(Then::Reset) => {
            let _ = stream.set_zero_linger();
            let why = format!("reset after {} of {announced} bytes", bytes.len());
            return Answer::Unknown(None, why);
        }
        Some(Then::Close) => {
            let _ = stream.shutdown().await;
        }
        Some(Then::Nothing) | None => {}
    }
    let patience = Duration::from_millis(manner.patience_ms);
    match timeout(patience, answer(&mut stream)).await {
        Ok(Ok(Some(answer))) => answer,
        Ok(Ok(None)) => Answer::Unknown(None, "closed without a whole answer".to_owned()),
        Ok(Err(error)) => Answer::Unknown(None, sent.err().unwrap_or(error).to_string()),
        Err(_) => Answer::Unknown(None, format!("given up after {} ms", manner.patience_ms)),
    }
}

fn head(host: &str, key: Option<&str>, length: usize) -> String {
    let key = key.map_or(String::new(), |key| format!("idempotency-key: {key}\r\n"));
    format!(
        "POST /events HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n{key}\r\n"
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

/// The answer on a connection that ends with it; nothing if it did not come whole.
async fn answer(stream: &mut TcpStream) -> Result<Option<Answer>, io::Error> {
    let mut bytes = Vec::new();
    stream
        .take(ANSWER_BYTES_MAX)
        .read_to_end(&mut bytes)
        .await?;
    Ok(whole(&bytes))
}

fn whole(bytes: &[u8]) -> Option<Answer> {
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
    (length? == body.len()).then(|| Answer::of(status, body))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use tokio::net::TcpListener;

    const POST: Post<'static> = Post {
        payload: "1",
        target: "http://r/webhook/7",
        key: Some("k"),
    };
    const ACCEPTED: &str = "HTTP/1.1 202 Accepted\r\nContent-Length: 10\r\n\r\n{\"id\":\"a\"}";

    /// What a listener that answers so got, and what the client made of it.
    async fn posted(manner: Manner, says: &'static str) -> (String, Answer) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = format!("http://{}", listener.local_addr().unwrap());
        let server = async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut got = String::new();
            let mut piece = [0; 64];
            while !is_whole(&got) {
                // A reset is an end, too.
                let Ok(1..) = stream.read(&mut piece).await.inspect(|read| {
                    got.push_str(std::str::from_utf8(&piece[..*read]).unwrap());
                }) else {
                    break;
                };
            }
            let _ = stream.write_all(says.as_bytes()).await;
            got
        };
        tokio::join!(server, post(&api, POST, manner))
    }

    fn is_whole(request: &str) -> bool {
        let Some((head, body)) = request.split_once("\r\n\r\n") else {
            return false;
        };
        let (_, length) = head.split_once("content-length: ").unwrap();
        let length: usize = length.lines().next().unwrap().parse().unwrap();
        body.len() == length
    }

    fn manner(stop: Option<Stop>) -> Manner {
        Manner {
            pause_ms: 0,
            stop,
            patience_ms: 60_000,
        }
    }

    #[test]
    fn only_a_whole_answer_is_one() {
        assert_eq!(
            whole(ACCEPTED.as_bytes()),
            Some(Answer::Accepted("a".into()))
        );
        for cut in [0, 20, ACCEPTED.len() - 1] {
            assert_eq!(whole(&ACCEPTED.as_bytes()[..cut]), None, "{cut}");
        }
    }

    #[tokio::test]
    async fn a_body_that_is_broken_off_lacks_what_it_announced_even_if_it_is_an_event_by_itself() {
        let stop = |at_percent| Stop {
            at_percent,
            then: Then::Close,
        };
        for percent in [0, 50, 100] {
            let refused = "HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\nno";
            let (got, answer) = posted(manner(Some(stop(percent))), refused).await;
            let (head, body) = got.split_once("\r\n\r\n").unwrap();
            let announced = format!("content-length: {}", POST.body().len() + BLANKS);
            assert!(head.contains(&announced), "{head}");
            assert_eq!(body.len(), POST.body().len() * percent as usize / 100);
            assert!(POST.body().starts_with(body));
            assert_eq!(answer, Answer::Refused(400, "no".into()));
        }
    }

    #[tokio::test]
    async fn a_reset_and_an_answer_that_is_not_waited_for_are_unknown() {
        let stop = Stop {
            at_percent: 50,
            then: Then::Reset,
        };
        let (_, answer) = posted(manner(Some(stop)), "").await;
        assert!(matches!(answer, Answer::Unknown(None, _)), "{answer:?}");
        let hasty = Manner {
            patience_ms: 0,
            ..manner(None)
        };
        let (got, answer) = posted(hasty, "").await;
        assert!(got.ends_with(&POST.body()), "it was sent whole: {got}");
        assert!(matches!(answer, Answer::Unknown(None, _)), "{answer:?}");
    }

    #[tokio::test]
    async fn a_whole_body_in_single_bytes_gets_its_answer() {
        let slow = Manner {
            pause_ms: 1,
            ..manner(None)
        };
        let (got, answer) = posted(slow, ACCEPTED).await;
        assert!(got.ends_with(&POST.body()));
        assert_eq!(answer, Answer::Accepted("a".into()));
    }
}
