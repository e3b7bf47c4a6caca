//! HTTPS: a private authority through `EXTRA_CA_FILE`, and handshakes that must fail.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::{ONCE, sent};
use crate::support::app::App;
use crate::support::fixture::Endpoint;
use crate::support::raw::read_one;
use crate::support::view::attempts;

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nsecret";

/// A certificate authority of the test.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no name is invalid");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("the key can be generated");
        Self(CertifiedIssuer::self_signed(params, key).expect("the certificate can be signed"))
    }

    /// Settings of a server with a certificate for `name`, changed by the test.
    fn server(&self, name: &str, change: impl Fn(&mut CertificateParams)) -> ServerConfig {
        let key = KeyPair::generate().expect("the key can be generated");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("the name is valid");
        change(&mut params);
        let certificate = params.signed_by(&key, &self.0).expect("the certificate can be signed");
        let chain = vec![certificate.der().clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("the key can be generated");
        let config = ServerConfig::builder().with_no_client_auth();
        config.with_single_cert(chain, key).expect("chain and key match")
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("the authority is valid");
        roots
    }
}

/// A receiver behind TLS. It runs until it is dropped.
struct Secured {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Secured {
    async fn start(config: ServerConfig) -> Self {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Self::listening(move |stream| {
            let acceptor = acceptor.clone();
            async move {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                if read_one(&mut stream).await.is_some() {
                    let _ = stream.write_all(RESPONSE).await;
                    let _ = stream.shutdown().await;
                }
            }
        })
        .await
    }

    async fn listening<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("the listener is bound");
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream));
            }
        });
        Self { address, serving }
    }

    fn url(&self) -> String {
        format!("https://{}/hook", self.address)
    }
}

impl Drop for Secured {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Writes the certificates of the authorities to a file.
fn trusting(authorities: &[&Authority]) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("the directory can be created");
    let file = directory.path().join("extra.pem");
    let bundle: String = authorities.iter().map(|authority| authority.0.pem()).collect();
    std::fs::write(&file, bundle).expect("the file can be written");
    (directory, file)
}

async fn app(file: Option<&PathBuf>) -> App {
    let file = file.map_or(String::new(), |file| file.display().to_string());
    App::start(&[ONCE, ("EXTRA_CA_FILE", &file)]).await
}

fn outcome(event: &Value) -> &str {
    attempts(event)[0]["outcome"].as_str().expect("the attempt has an outcome")
}

#[tokio::test]
async fn certificate_of_an_extra_authority_is_trusted() {
    dispatcher::install_tls_provider();
    let (first, second) = (Authority::new(), Authority::new());
    let (_directory, file) = trusting(&[&second, &first]);
    let app = app(Some(&file)).await;
    for (authority, name) in [(&first, "127.0.0.1"), (&second, "127.0.0.1"), (&first, "localhost")]
    {
        let receiver = Secured::start(authority.server(name, |_| {})).await;
        let target = receiver.url().replace("127.0.0.1", name);
        let event = sent(&app, &target).await;
        assert_eq!(event["status"], "delivered", "{event:#}");
        assert_eq!(attempts(&event)[0]["response"], "secret");
    }
    app.stop().await;
}

#[tokio::test]
async fn invalid_certificate_has_outcome_tls() {
    dispatcher::install_tls_provider();
    let (trusted, unknown) = (Authority::new(), Authority::new());
    let (_directory, file) = trusting(&[&trusted]);
    let app = app(Some(&file)).await;
    let expired = |params: &mut CertificateParams| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    };
    let early = |params: &mut CertificateParams| {
        params.not_before = rcgen::date_time_ymd(2200, 1, 1);
        params.not_after = rcgen::date_time_ymd(2201, 1, 1);
    };
    let client = WebPkiClientVerifier::builder(Arc::new(trusted.roots())).build().unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
    let certificate = certificate.signed_by(&key, &trusted.0).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let mutual = ServerConfig::builder()
        .with_client_cert_verifier(client)
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let cases = [
        ("another authority", unknown.server("127.0.0.1", |_| {})),
        ("another name", trusted.server("example.com", |_| {})),
        ("another address", trusted.server("127.0.0.2", |_| {})),
        ("expired", trusted.server("127.0.0.1", expired)),
        ("not valid yet", trusted.server("127.0.0.1", early)),
        ("a client certificate is required", mutual),
    ];
    for (certificate, config) in cases {
        let receiver = Secured::start(config).await;
        let event = sent(&app, &receiver.url()).await;
        assert_eq!(outcome(&event), "tls", "{certificate}: {event:#}");
        assert_eq!(attempts(&event)[0]["response"], Value::Null, "{certificate}");
    }
    app.stop().await;
}

#[tokio::test]
async fn private_authority_is_refused_without_extra_ca_file() {
    dispatcher::install_tls_provider();
    let app = app(None).await;
    let receiver = Secured::start(Authority::new().server("127.0.0.1", |_| {})).await;
    assert_eq!(outcome(&sent(&app, &receiver.url()).await), "tls");
    app.stop().await;
}

#[tokio::test]
async fn failed_handshake_is_tls_and_silent_server_is_timeout() {
    let app = App::start(&[ONCE, ("HTTP_TIMEOUT", "1")]).await;
    let plain = Endpoint::responding_with(200).await;
    let event = sent(&app, &plain.url(1).replace("http:", "https:")).await;
    assert_eq!(outcome(&event), "tls", "{event:#}");
    assert_eq!(plain.journal.receipts().iter().filter(|r| r.signature.is_valid()).count(), 0);

    let closing = Secured::listening(|stream| async move { drop(stream) }).await;
    let event = sent(&app, &closing.url()).await;
    assert_eq!(outcome(&event), "tls", "{event:#}");

    let other_protocol = Secured::listening(|mut stream| async move {
        let _ = stream.write_all(b"220 mail.example ESMTP\r\n").await;
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    })
    .await;
    let event = sent(&app, &other_protocol.url()).await;
    assert_eq!(outcome(&event), "tls", "{event:#}");

    let silent = Secured::listening(|mut stream| async move {
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    })
    .await;
    let event = sent(&app, &silent.url()).await;
    assert_eq!(outcome(&event), "timeout", "{event:#}");
    app.stop().await;
}

#[tokio::test]
async fn plain_http_to_a_tls_port_delivers_nothing() {
    dispatcher::install_tls_provider();
    let app = App::start(&[ONCE]).await;
    let receiver = Secured::start(Authority::new().server("127.0.0.1", |_| {})).await;
    let event = sent(&app, &receiver.url().replace("https:", "http:")).await;
    let outcome = outcome(&event);
    assert!(["body", "reset"].contains(&outcome), "{event:#}");
    app.stop().await;
}

#[test]
fn missing_extra_ca_file_is_named_at_start() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing.pem").display().to_string();
    let settings = |file: String| {
        let found = move |name: &str| (name == "EXTRA_CA_FILE").then(|| file.clone());
        dispatcher::config::Config::from_lookup(found)
    };
    let error = settings(missing).unwrap_err().to_string();
    assert!(error.contains("EXTRA_CA_FILE"), "{error}");
}
