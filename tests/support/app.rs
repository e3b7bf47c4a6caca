//! A dispatcher in this process, over a database of its own: the very wiring that the binary runs.

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

/// No test waits longer for something that must come; a guard, not a measurement.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How often something that no signal tells is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// A running dispatcher.
pub(crate) struct App {
    pub(crate) address: SocketAddr,
    pub(crate) pool: PgPool,
    pub(crate) client: Client,
    stop: CancellationToken,
    served: JoinHandle<()>,
}

/// Short times and a loopback that is allowed; what a test says comes on top.
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
    base.iter()
        .chain(own)
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// The configuration that the settings make.
pub(crate) fn config(database: &str, own: &[(&str, &str)]) -> Config {
    let settings = settings(database, own);
    Config::from_lookup(|name| settings.get(name).cloned()).expect("the settings hold")
}

impl App {
    /// Over a fresh database, taking events and delivering them.
    pub(crate) async fn start(own: &[(&str, &str)]) -> Self {
        let database = db::database().await;
        Self::over(&database, Role::Serve, own).await
    }

    /// Over a database that is there already.
    pub(crate) async fn over(database: &str, role: Role, own: &[(&str, &str)]) -> Self {
        let app = Self::unready(database, role, own, database).await;
        app.until_ready().await;
        app
    }

    /// Over a database that may not be there yet; the test looks at its rows by a way of its own.
    pub(crate) async fn unready(
        database: &str,
        role: Role,
        own: &[(&str, &str)],
        direct: &str,
    ) -> Self {
        dispatcher::install_tls_provider();
        let config = config(database, own);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let stop = CancellationToken::new();
        let serving = serve(config, role, listener, stop.clone());
        let served = tokio::spawn(async move { serving.await.expect("a dispatcher that can run") });
        let client = Client::builder()
            .no_proxy()
            .build()
            .expect("a plain client");
        let pool = db::pool(direct).await;
        Self {
            address,
            pool,
            client,
            stop,
            served,
        }
    }

    /// Waits until the database answers and the schema is current.
    pub(crate) async fn until_ready(&self) {
        until("ready", || async {
            self.get("/readyz").await.status() == StatusCode::OK
        })
        .await;
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.client
            .get(self.url(path))
            .send()
            .await
            .expect("the dispatcher answers")
    }

    /// Posts a body as it is.
    pub(crate) async fn post(&self, body: impl Into<reqwest::Body>) -> Response {
        self.post_with(&[], body).await
    }

    /// Posts a body with further headers.
    pub(crate) async fn post_with(
        &self,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> Response {
        let mut request = self
            .client
            .post(self.url("/events"))
            .header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request
            .body(body)
            .send()
            .await
            .expect("the dispatcher answers")
    }

    /// Posts an event that must be accepted; its id.
    pub(crate) async fn accept(&self, payload: &str, target_url: &str) -> String {
        let body = format!(
            r#"{{"payload":{payload},"target_url":{}}}"#,
            Value::from(target_url)
        );
        let answer = self.post(body).await;
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
        id_of(answer).await
    }

    /// The event as the API shows it.
    pub(crate) async fn event(&self, id: &str) -> Value {
        self.get(&format!("/events/{id}"))
            .await
            .json()
            .await
            .expect("an event")
    }

    /// Waits until the event has the status, and shows it.
    pub(crate) async fn event_when(&self, id: &str, status: &str) -> Value {
        self.event_once(id, status, |event| event["status"] == status)
            .await
    }

    /// Waits until the event is as wished, and shows it.
    pub(crate) async fn event_once(
        &self,
        id: &str,
        what: &str,
        wished: impl Fn(&Value) -> bool,
    ) -> Value {
        let mut event = Value::Null;
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                event = self.event(id).await;
                // Not a problem: a machine under load may answer 503 for once.
                if event["attempts"].is_array() && wished(&event) {
                    return;
                }
                tokio::time::sleep(LOOK).await;
            }
        });
        assert!(
            waited.await.is_ok(),
            "the event never was {what}: {event:#}"
        );
        event
    }

    /// Stops it in order, as SIGTERM does.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.served.await.expect("it stops in order");
    }
}

/// Waits until something holds that no signal tells.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !holds().await {
            tokio::time::sleep(LOOK).await;
        }
    });
    assert!(waited.await.is_ok(), "never happened: {what}");
}

/// The id in a 202.
pub(crate) async fn id_of(answer: Response) -> String {
    let body: Value = answer.json().await.expect("JSON");
    body["id"].as_str().expect("an id").to_owned()
}
