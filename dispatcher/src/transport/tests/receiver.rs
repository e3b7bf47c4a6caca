//! A receiver that follows a script of raw bytes, with or without TLS.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_util::either::Either;

use super::super::HttpTransport;
use crate::config::Config;

/// One step of a receiver on a connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// Reads one head and the first bytes of its body.
    Head,
    /// Reads one head and its whole body.
    Request,
    Send(&'static str),
    /// Closes the connection without `close_notify`.
    Close,
}
pub(super) type Steps = &'static [&'static [Step]];

/// A receiver that performs the same steps in each run. The last connection of the script serves
/// all further ones.
pub(super) struct Receiver {
    pub(super) url: String,
    seen: Arc<Mutex<Vec<(usize, String)>>>,
    serving: JoinHandle<()>,
    roots: RootCertStore,
}

impl Receiver {
    pub(super) async fn start(over_tls: bool, script: Steps) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (acceptor, roots) = authority();
        let scheme = if over_tls { "https" } else { "http" };
        let url = format!("{scheme}://{}/", listener.local_addr().unwrap());
        let seen = Arc::<Mutex<Vec<_>>>::default();
        let requests = Arc::clone(&seen);
        let serving = tokio::spawn(async move {
            for number in 1.. {
                let (tcp, _) = listener.accept().await.unwrap();
                // Otherwise the kernel discards a delayed response when the connection is reset.
                tcp.set_nodelay(true).unwrap();
                let steps = script[script.len().min(number) - 1];
                let (acceptor, requests) = (acceptor.clone(), Arc::clone(&requests));
                tokio::spawn(async move {
                    let stream = if over_tls {
                        Either::Right(acceptor.accept(tcp).await.unwrap())
                    } else {
                        Either::Left(tcp)
                    };
                    serve(stream, number, steps, &requests).await;
                });
            }
        });
        Self { url, seen, serving, roots }
    }

    /// The connection of each request and the value of its header `Connection`, or an empty text.
    pub(super) fn requests(&self) -> Vec<(usize, String)> {
        self.seen.lock().unwrap().clone()
    }

    pub(super) fn transport(&self, settings: &[(&str, &str)]) -> HttpTransport {
        let config = Config::from_lookup(|name| {
            let own = settings.iter().find(|(setting, _)| *setting == name);
            match (own, name) {
                (Some((_, value)), _) => Some((*value).to_owned()),
                (None, "ALLOWED_TARGET_CIDRS") => Some("127.0.0.0/8".to_owned()),
                (None, _) => None,
            }
        });
        let mut config = config.unwrap().transport;
        config.extra_authorities = self.roots.clone();
        let mut transport = HttpTransport::new(&config).unwrap();
        transport.pool.limits.silence = Duration::ZERO;
        transport.pool.limits.first_silence = Duration::ZERO;
        transport
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn authority() -> (TlsAcceptor, RootCertStore) {
    crate::install_tls_provider();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = certificate.self_signed(&key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(vec![certificate.der().clone()], key);
    (TlsAcceptor::from(Arc::new(config.unwrap())), roots)
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    number: usize,
    steps: &[Step],
    requests: &Mutex<Vec<(usize, String)>>,
) {
    for step in steps {
        match step {
            Step::Head | Step::Request => {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else {
                        return;
                    };
                    head.push(byte);
                }
                let head = String::from_utf8(head).unwrap();
                let value = |name| head.lines().find_map(|line| line.strip_prefix(name));
                if matches!(step, Step::Request) {
                    let length = value("content-length: ").unwrap().parse().unwrap();
                    stream.read_exact(&mut vec![0; length]).await.unwrap();
                }
                let connection = value("connection: ").unwrap_or_default().to_owned();
                requests.lock().unwrap().push((number, connection));
            }
            // A dispatcher that has closed the connection receives nothing.
            Step::Send(bytes) => drop(stream.write_all(bytes.as_bytes()).await),
            Step::Close => return,
        }
    }
    let _ = stream.read_u8().await;
}
