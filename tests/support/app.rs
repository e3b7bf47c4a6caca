//! A dispatcher in the test process. It starts with the same `serve` function as the binary.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use dispatcher::config::Config;
use dispatcher::{Role, serve};
use reqwest::{Client, Response, StatusCode};
use serde_json::Value;
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::db;

/// Maximum wait for an expected state. It only ends a failing test and measures nothing.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(30);

/// Interval between two reads of a state that sends no signal.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A running dispatcher with a client for its API and a pool for its database.
pub(crate) struct App {
    pub(crate) address: SocketAddr,
    pub(crate) pool: PgPool,
    pub(crate) client: Client,
    stop: CancellationToken,
    served: JoinHandle<()>,
}

/// Test settings with short times and permitted loopback targets. `own` overrides them.
pub(crate) fn settings(database: &str, own: &[(&str, &str)]) -> BTreeMap<String, String> {
    let base = [
        ("DATABASE_URL", database),
        ("WEBHOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        ("ALLOWED_TARGET_CIDRS", "127.0.0.0/8"),
        ("HTTP_TIMEOUT", "2"),
        ("BACKOFF_BASE_SECONDS", "0.05"),
        ("BACKOFF_CAP_SECONDS", "0.2"),
        ("WORKER_POLL_INTERVAL", "0.2"),
    ];
    base.iter().chain(own).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The parsed configuration of [`settings`].
pub(crate) fn config(database: &str, own: &[(&str, &str)]) -> Config {
    let settings = settings(database, own);
    Config::from_lookup(|name| settings.get(name).cloned()).expect("the settings are valid")
}

impl App {
    /// Starts a dispatcher that accepts and delivers events, over a new database.
    pub(crate) async fn start(own: &[(&str, &str)]) -> Self {
        let database = db::database().await;
        Self::over(&database, Role::Serve, own).await
    }

    /// Starts a dispatcher over an existing database and waits until it is ready.
    pub(crate) async fn over(database: &str, role: Role, own: &[(&str, &str)]) -> Self {
        let app = Self::unready(database, role, own, database).await;
        app.until_ready().await;
        app
    }

    /// Starts a dispatcher without waiting. `direct` is the URL by which the test reads the rows,
    /// because `database` may lead through a proxy that is cut.
    pub(crate) async fn unready(
        database: &str,
        role: Role,
        own: &[(&str, &str)],
        direct: &str,
    ) -> Self {
        dispatcher::install_tls_provider();
        let config = config(database, own);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("the listener is bound");
        let stop = CancellationToken::new();
        let serving = serve(config, role, listener, stop.clone());
        let served =
            tokio::spawn(async move { serving.await.expect("serve returns without an error") });
        let client = Client::builder().no_proxy().build().expect("a client can be built");
        let pool = db::pool(direct).await;
        Self { address, pool, client, stop, served }
    }

    /// Waits until `/readyz` returns 200.
    pub(crate) async fn until_ready(&self) {
        until("the dispatcher is ready", || async {
            self.get("/readyz").await.status() == StatusCode::OK
        })
        .await;
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.client.get(self.url(path)).send().await.expect("the dispatcher responds")
    }

    /// Posts the body unchanged to `/events`.
    pub(crate) async fn post(&self, body: impl Into<reqwest::Body>) -> Response {
        self.post_with(&[], body).await
    }

    /// Posts the body with additional headers.
    pub(crate) async fn post_with(
        &self,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> Response {
        let mut request =
            self.client.post(self.url("/events")).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(body).send().await.expect("the dispatcher responds")
    }

    /// Posts an event that must be accepted and returns its id.
    pub(crate) async fn accept(&self, payload: &str, target_url: &str) -> String {
        let body = format!(r#"{{"payload":{payload},"target_url":{}}}"#, Value::from(target_url));
        let response = self.post(body).await;
        assert_eq!(response.status(), StatusCode::ACCEPTED);
        id_of(response).await
    }

    /// The response of `GET /events/{id}`.
    pub(crate) async fn event(&self, id: &str) -> Value {
        self.get(&format!("/events/{id}")).await.json().await.expect("the response is JSON")
    }

    /// Waits until the event has the status and returns the event.
    pub(crate) async fn event_with_status(&self, id: &str, status: &str) -> Value {
        self.event_where(id, status, |event| event["status"] == status).await
    }

    /// Waits until `accepts` returns true for the event and returns the event.
    /// `state` names that state in the failure message.
    pub(crate) async fn event_where(
        &self,
        id: &str,
        state: &str,
        accepts: impl Fn(&Value) -> bool,
    ) -> Value {
        let mut event = Value::Null;
        let waited = tokio::time::timeout(WAIT_MAX, async {
            loop {
                event = self.event(id).await;
                // On a busy machine the response may be a 503, which has no attempts.
                if event["attempts"].is_array() && accepts(&event) {
                    return;
                }
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        });
        assert!(waited.await.is_ok(), "the event did not become {state}: {event:#}");
        event
    }

    /// Stops the dispatcher as SIGTERM does and waits for its end.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.served.await.expect("the dispatcher stops without a panic");
    }
}

/// Polls until `holds` returns true. `condition` names it in the failure message.
pub(crate) async fn until<F: Future<Output = bool>>(condition: &str, holds: impl Fn() -> F) {
    let waited = tokio::time::timeout(WAIT_MAX, async {
        while !holds().await {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    });
    assert!(waited.await.is_ok(), "did not happen: {condition}");
}

/// The event id in a 202 response.
pub(crate) async fn id_of(response: Response) -> String {
    let body: Value = response.json().await.expect("the response is JSON");
    body["id"].as_str().expect("the response has an id").to_owned()
}
