//! HTTPS: an authority of one's own through `EXTRA_CA_FILE`, and every handshake that must not succeed.

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
use crate::support::story::attempts;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nsecret";

/// Who signs certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names to be wrong");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    /// A server with a certificate for a name, changed as the test wishes.
    fn server(&self, name: &str, change: impl Fn(&mut CertificateParams)) -> ServerConfig {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        change(&mut params);
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        let chain = vec![certificate.der().clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let config = ServerConfig::builder().with_no_client_auth();
        config
            .with_single_cert(chain, key)
            .expect("a chain and its key")
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("an authority");
        roots
    }
}

/// A receiver behind TLS.
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
                    let _ = stream.write_all(ANSWER).await;
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
        let address = listener.local_addr().expect("it is bound");
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

/// A file with the certificates of these authorities.
fn trusting(authorities: &[&Authority]) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("extra.pem");
    let bundle: String = authorities
        .iter()
        .map(|authority| authority.0.pem())
        .collect();
    std::fs::write(&file, bundle).expect("a file");
    (directory, file)
}

async fn app(file: Option<&PathBuf>) -> App {
    let file = file.map_or(String::new(), |file| file.display().to_string());
    App::start(&[ONCE, ("EXTRA_CA_FILE", &file)]).await
}

fn outcome(event: &Value) -> &str {
    attempts(event)[0]["outcome"].as_str().expect("a word")
}

#[tokio::test]
async fn a_certificate_of_an_extra_authority_is_trusted() {
    dispatcher::install_tls_provider();
    let (ours, another) = (Authority::new(), Authority::new());
    let (_directory, file) = trusting(&[&another, &ours]);
    let app = app(Some(&file)).await;
    for (authority, name) in [
        (&ours, "127.0.0.1"),
        (&another, "127.0.0.1"),
        (&ours, "localhost"),
    ] {
        let receiver = Secured::start(authority.server(name, |_| {})).await;
        let target = receiver.url().replace("127.0.0.1", name);
        let event = sent(&app, &target).await;
        assert_eq!(event["status"], "delivered", "{event:#}");
        assert_eq!(attempts(&event)[0]["response"], "secret");
    }
    app.stop().await;
}

#[tokio::test]
async fn a_certificate_that_is_not_good_is_a_failed_attempt_of_class_tls() {
    dispatcher::install_tls_provider();
    let (ours, strangers) = (Authority::new(), Authority::new());
    let (_directory, file) = trusting(&[&ours]);
    let app = app(Some(&file)).await;
    let expired = |params: &mut CertificateParams| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    };
    let early = |params: &mut CertificateParams| {
        params.not_before = rcgen::date_time_ymd(2200, 1, 1);
        params.not_after = rcgen::date_time_ymd(2201, 1, 1);
    };
    let client = WebPkiClientVerifier::builder(Arc::new(ours.roots()))
        .build()
        .unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
    let certificate = certificate.signed_by(&key, &ours.0).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let mutual = ServerConfig::builder()
        .with_client_cert_verifier(client)
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let cases = [
        ("another authority", strangers.server("127.0.0.1", |_| {})),
        ("another name", ours.server("example.com", |_| {})),
        ("another address", ours.server("127.0.0.2", |_| {})),
        ("expired", ours.server("127.0.0.1", expired)),
        ("not valid yet", ours.server("127.0.0.1", early)),
        ("a client's certificate is asked for", mutual),
    ];
    for (what, config) in cases {
        let receiver = Secured::start(config).await;
        let event = sent(&app, &receiver.url()).await;
        assert_eq!(outcome(&event), "tls", "{what}: {event:#}");
        assert_eq!(attempts(&event)[0]["response"], Value::Null, "{what}");
    }
    app.stop().await;
}

#[tokio::test]
async fn without_the_file_a_private_authority_is_a_stranger() {
    dispatcher::install_tls_provider();
    let app = app(None).await;
    let receiver = Secured::start(Authority::new().server("127.0.0.1", |_| {})).await;
    assert_eq!(outcome(&sent(&app, &receiver.url()).await), "tls");
    app.stop().await;
}

#[tokio::test]
async fn what_does_not_speak_tls_is_of_class_tls_and_what_says_nothing_is_a_timeout() {
    let app = App::start(&[ONCE, ("HTTP_TIMEOUT", "1")]).await;
    let plain = Endpoint::answering(200).await;
    let event = sent(&app, &plain.url(1).replace("http:", "https:")).await;
    assert_eq!(outcome(&event), "tls", "{event:#}");
    assert_eq!(
        plain
            .journal
            .receipts()
            .iter()
            .filter(|r| r.signature.is_valid())
            .count(),
        0
    );

    let closing = Secured::listening(|stream| async move { drop(stream) }).await;
    let event = sent(&app, &closing.url()).await;
    assert_eq!(outcome(&event), "tls", "{event:#}");

    let talking = Secured::listening(|mut stream| async move {
        let _ = stream.write_all(b"220 mail.example ESMTP\r\n").await;
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    })
    .await;
    let event = sent(&app, &talking.url()).await;
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
async fn plain_http_to_a_port_that_speaks_tls_delivers_nothing() {
    dispatcher::install_tls_provider();
    let app = App::start(&[ONCE]).await;
    let receiver = Secured::start(Authority::new().server("127.0.0.1", |_| {})).await;
    let event = sent(&app, &receiver.url().replace("https:", "http:")).await;
    let outcome = outcome(&event);
    assert!(["body", "reset"].contains(&outcome), "{event:#}");
    app.stop().await;
}

#[test]
fn a_file_that_holds_no_certificates_is_named_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing.pem").display().to_string();
    let settings = |file: String| {
        let found = move |name: &str| (name == "EXTRA_CA_FILE").then(|| file.clone());
        dispatcher::config::Config::from_lookup(found)
    };
    let error = settings(missing).unwrap_err().to_string();
    assert!(error.contains("EXTRA_CA_FILE"), "{error}");
}
