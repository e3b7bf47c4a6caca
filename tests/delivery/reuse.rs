//! Receivers that use a kept connection wrongly. Unit tests of `transport` have the single cases.

use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::ended;
use crate::support::app::App;
use crate::support::raw::read_one;
use crate::support::view::outcomes;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const NO: &[u8] = b"HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\nno";

/// How the receiver misuses a connection after its response to `/good`. It refuses `/bad`.
#[derive(Clone, Copy, Debug)]
enum Misuse {
    RespondAgain,
    Close,
}

struct Receiver {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Receiver {
    async fn start(misuse: Misuse) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    while let Some((head, _)) = read_one(&mut stream).await {
                        let is_good = head.starts_with("POST /good");
                        stream.write_all(if is_good { OK } else { NO }).await?;
                        match misuse {
                            Misuse::RespondAgain if is_good => {
                                // The next request may be on its way already.
                                tokio::task::yield_now().await;
                                stream.write_all(OK).await?;
                            }
                            Misuse::RespondAgain => {}
                            Misuse::Close => break,
                        }
                    }
                    std::io::Result::Ok(())
                });
            }
        });
        Self { address, serving }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

// Without the checks of the transport, the second 200 delivers an event that was refused.
#[tokio::test]
async fn refused_events_are_not_delivered_by_other_responses() {
    let own = [("MAX_ATTEMPTS", "2"), ("BACKOFF_BASE_SECONDS", "0.1")];
    let app = App::start(&own).await;
    let receiver = Receiver::start(Misuse::RespondAgain).await;
    let (good, bad) =
        (format!("http://{}/good", receiver.address), format!("http://{}/bad", receiver.address));
    let mut refused = Vec::new();
    for _ in 0..50 {
        app.accept("1", &good).await;
        refused.push(app.accept("1", &bad).await);
    }
    for id in &refused {
        let event = ended(&app, id).await;
        assert_eq!(outcomes(&event), ["rejected", "rejected"], "{event:#}");
    }
    app.stop().await;
}

#[tokio::test]
async fn unannounced_close_costs_no_attempt() {
    let app = App::start(&[]).await;
    let receiver = Receiver::start(Misuse::Close).await;
    let target = format!("http://{}/good", receiver.address);
    let mut ids = Vec::new();
    for _ in 0..50 {
        ids.push(app.accept("1", &target).await);
    }
    for id in &ids {
        let event = ended(&app, id).await;
        assert_eq!(outcomes(&event), ["delivered"], "{event:#}");
    }
    app.stop().await;
}
