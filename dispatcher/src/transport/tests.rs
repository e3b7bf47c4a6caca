//! Attempts over real sockets. The receivers send bytes that an HTTP library would not send.
#![expect(clippy::unwrap_used, reason = "tests")]

mod receiver;

use proptest::prelude::*;
use tokio::net::TcpListener;

use self::receiver::Step::{self, Close, Head, Send};
use self::receiver::{Receiver, Steps};
use super::*;
use crate::target::AllowList;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const NO: &str = "HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\nno";

async fn attempt(transport: &HttpTransport, url: &str, payload: usize) -> AttemptResult {
    let request = Request {
        id: EventId::fresh(),
        number: 1,
        started_at: DateTime::UNIX_EPOCH,
        signature: "v1,test".to_owned(),
        target_url: url.to_owned(),
        payload: vec![b'1'; payload].into(),
    };
    transport.attempt(request).await.unwrap()
}

/// Makes attempts one after the other and returns outcome and status of each.
async fn outcomes(transport: &HttpTransport, receiver: &Receiver, count: usize) -> Vec<String> {
    let mut outcomes = Vec::new();
    for _ in 0..count {
        let result = attempt(transport, &receiver.url, 1).await;
        let status = result.outcome.status();
        let status = status.map_or(String::new(), |status| format!(" {status}"));
        outcomes.push(format!("{}{status}", result.outcome.as_str()));
        // The bytes of the receiver after its response arrive before the next attempt.
        settle().await;
    }
    outcomes
}

/// Runs the receiver until it waits for the dispatcher, and lets the runtime poll its sockets.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn silent_connection_is_reused() {
    for over_tls in [false, true] {
        let script: Steps = &[&[Step::Request, Send(OK), Step::Request, Send(NO)]];
        let receiver = Receiver::start(over_tls, script).await;
        let transport = receiver.transport(&[]);
        let found = outcomes(&transport, &receiver, 2).await;
        assert_eq!(found, ["delivered 200", "rejected 500"]);
        assert_eq!(receiver.requests(), [(1, String::new()), (1, String::new())]);
    }
}

#[tokio::test]
async fn reuse_can_be_turned_off() {
    let receiver = Receiver::start(false, &[&[Step::Request, Send(OK)]]).await;
    let transport = receiver.transport(&[("CONNECTION_REUSE", "false")]);
    outcomes(&transport, &receiver, 2).await;
    assert_eq!(receiver.requests(), [(1, "close".to_owned()), (2, "close".to_owned())]);
}

// The bytes are a response that would deliver the second event. The receiver refuses that event.
#[tokio::test]
async fn second_response_does_not_answer_another_event() {
    const SCRIPTS: [Steps; 3] = [
        &[&[Step::Request, Send(OK), Send(OK)], &[Step::Request, Send(NO)]],
        &[&[Step::Request, Send(OK), Send("\r\n")], &[Step::Request, Send(NO)]],
        &[
            &[Step::Request, Send("HTTP/1.1 204 No Content\r\n\r\n"), Send(OK)],
            &[Step::Request, Send(NO)],
        ],
    ];
    for over_tls in [false, true] {
        for script in SCRIPTS {
            let receiver = Receiver::start(over_tls, script).await;
            let transport = receiver.transport(&[]);
            let found = outcomes(&transport, &receiver, 3).await;
            assert_eq!(found[1..], ["rejected 500", "rejected 500"], "{script:?}");
            let close = "close".to_owned();
            assert_eq!(
                receiver.requests(),
                [(1, String::new()), (2, close.clone()), (3, close)],
                "{script:?}"
            );
        }
    }
}

#[tokio::test]
async fn unannounced_close_ends_the_reuse_for_its_host() {
    for over_tls in [false, true] {
        let script: Steps = &[&[Step::Request, Send(OK), Close]];
        let receiver = Receiver::start(over_tls, script).await;
        let transport = receiver.transport(&[]);
        let found = outcomes(&transport, &receiver, 2).await;
        assert_eq!(found, ["delivered 200", "delivered 200"]);
        assert_eq!(receiver.requests()[1], (2, "close".to_owned()));
    }
}

// The first response on a reused connection may be the second one to the request before it.
#[tokio::test]
async fn two_responses_on_a_reused_connection_are_a_reset() {
    const TWO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n\
        HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n";
    let script: Steps = &[&[Step::Request, Send(OK), Step::Request, Send(TWO)]];
    let receiver = Receiver::start(false, script).await;
    let transport = receiver.transport(&[]);
    attempt(&transport, &receiver.url, 1).await;
    let result = attempt(&transport, &receiver.url, 1).await;
    assert_eq!(result.outcome, Outcome::Reset);
    assert!(result.error.unwrap().contains("unsolicited bytes"));
}

#[tokio::test]
async fn failure_on_a_reused_connection_is_not_repeated() {
    let script: Steps =
        &[&[Step::Request, Send(OK), Step::Request, Close], &[Step::Request, Send(OK)]];
    let receiver = Receiver::start(false, script).await;
    let transport = receiver.transport(&[]);
    let found = outcomes(&transport, &receiver, 3).await;
    assert_eq!(found, ["delivered 200", "reset", "delivered 200"]);
    let requests = receiver.requests();
    assert_eq!(requests.len(), 3);
    assert_eq!(requests[2], (2, "close".to_owned()));
}

// No refusal follows: such a receiver does nothing wrong.
#[tokio::test]
async fn response_with_doubtful_end_prevents_reuse() {
    const DOUBTFUL: [&str; 9] = [
        "HTTP/1.1 204 No Content\r\ncontent-type: text/plain\r\n\r\n",
        "HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 205 Reset\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 304 Same\r\ncontent-length: 9\r\n\r\n",
        "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nconnection: x, Close\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nkeep-alive: timeout=1, max=9\r\ncontent-length: 0\r\n\r\n",
    ];
    const CLEAR: [&str; 3] = [
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        "HTTP/1.1 500 No\r\nkeep-alive: timeout=5\r\ncontent-length: 0\r\n\r\n",
    ];
    for (responses, connections) in [(&DOUBTFUL[..], [1, 2]), (&CLEAR[..], [1, 1])] {
        for response in responses {
            let steps = vec![Step::Request, Send(response), Step::Request, Send(OK)];
            let script = vec![&*steps.leak(), &[Step::Request, Send(OK)][..]];
            let receiver = Receiver::start(false, script.leak()).await;
            let transport = receiver.transport(&[]);
            outcomes(&transport, &receiver, 2).await;
            let found = receiver.requests();
            let expected = connections.map(|number| (number, String::new()));
            assert_eq!(found, expected, "{response:?}");
        }
    }
}

// The receiver closes with unread bytes, so it resets the connection while the body is written.
#[tokio::test]
async fn early_response_counts_although_the_body_is_not_read() {
    const EARLY: [&str; 3] = [
        "HTTP/1.1 413 Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbig",
        "HTTP/1.1 410 Gone\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    ];
    for over_tls in [false, true] {
        for response in EARLY {
            let steps = vec![Head, Send(response), Close];
            let script: Vec<&[Step]> = vec![steps.leak()];
            let receiver = Receiver::start(over_tls, script.leak()).await;
            let transport = receiver.transport(&[]);
            let status = response[9..12].parse().unwrap();
            for _ in 0..10 {
                let result = attempt(&transport, &receiver.url, 2 << 20).await;
                assert_eq!(result.outcome.status(), Some(status), "{over_tls} {result:?}");
            }
        }
    }
}

// The body of such a response ends with the connection. `Close` sends no `close_notify`.
#[tokio::test]
async fn body_without_length_is_complete_at_the_end_of_tls() {
    let cases: [(Steps, &str); 3] = [
        (&[&[Step::Request, Send("HTTP/1.1 200 OK\r\n\r\nbody"), Close]], "delivered 200"),
        (
            &[&[Step::Request, Send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nbody"), Close]],
            "body",
        ),
        (&[&[Step::Request, Send("HTTP/1.1 200 OK\r\n"), Close]], "body"),
    ];
    for (script, expected) in cases {
        let receiver = Receiver::start(true, script).await;
        let found = outcomes(&receiver.transport(&[]), &receiver, 1).await;
        assert_eq!(found, [expected]);
    }
}

#[tokio::test]
async fn error_names_the_phase_and_the_address() {
    let cases: [(Steps, &str); 4] = [
        (&[&[Step::Request, Close]], "waiting for the response of "),
        (&[&[Step::Request]], "waiting for the response of "),
        (&[&[Step::Request, Send("HTTP/1.1 200 OK\r\n")]], "reading the response of "),
        (&[&[Step::Request, Send("200\r\n\r\n")]], "reading the response of "),
    ];
    for (script, phase) in cases {
        let receiver = Receiver::start(false, script).await;
        let transport = receiver.transport(&[("HTTP_TIMEOUT", "0.2")]);
        let error = attempt(&transport, &receiver.url, 1).await.error.unwrap();
        let address = receiver.url.trim_start_matches("http://");
        let named = format!("{phase}{}", address.trim_end_matches('/'));
        assert!(error.contains(&named), "{error}");
    }
}

#[tokio::test]
async fn refused_connection_names_every_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let receiver = Receiver::start(false, &[&[]]).await;
    drop(listener);
    let result = attempt(&receiver.transport(&[]), &url, 1).await;
    assert_eq!(result.outcome, Outcome::Connect);
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    let named = format!("connecting to {address}: ");
    assert!(result.error.unwrap().starts_with(&named));
}

proptest! {
    // An event with such a target would fail on every attempt.
    #[test]
    fn every_accepted_target_makes_a_valid_request(
        host in r#"[a-zA-Z0-9._"'{}`!$&()*+,;=~|^<>%\\-]{1,12}"#,
        rest in r"[/?#\\][^\s\x00-\x20\x7f]{0,40}",
    ) {
        let text = format!("http://{host}{rest}");
        let Ok(to) = Destination::parse(&text, &AllowList::default()) else {
            return Ok(());
        };
        let request = Request {
            id: EventId::fresh(),
            number: 1,
            started_at: DateTime::UNIX_EPOCH,
            signature: String::new(),
            target_url: text,
            payload: Bytes::new(),
        };
        let sent = request.into_http(&to, true).unwrap();
        prop_assert_eq!(sent.uri().to_string(), to.path_and_query);
    }
}
