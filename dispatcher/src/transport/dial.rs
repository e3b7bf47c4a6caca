//! Makes connections: names to permitted addresses, TCP to one of them, and TLS where the URL asks for it.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use tower::Service;

use super::resolve::GuardedResolver;
use super::wire::Wire;

/// Dials targets; the client's pool asks it when no kept connection will do.
#[derive(Clone)]
pub(super) struct Dialer {
    tcp: HttpConnector<GuardedResolver>,
    tls: TlsConnector,
}

/// A connection as the client takes it.
pub(super) type Dialed = TokioIo<Wire<Either<TcpStream, Box<TlsStream<TcpStream>>>>>;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    /// No address, or none that takes a connection.
    #[error("no connection")]
    Tcp(#[source] Box<dyn Error + Send + Sync>),
    /// The handshake failed or was broken off.
    #[error("no TLS")]
    Tls(#[source] io::Error),
    /// The host cannot stand in a certificate.
    #[error(transparent)]
    Name(#[from] InvalidDnsNameError),
}

impl Dialer {
    pub(super) fn new(resolver: GuardedResolver, tls: Arc<ClientConfig>) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(resolver);
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        Self {
            tcp,
            tls: tls.into(),
        }
    }

    async fn dial(mut self, target: Uri) -> Result<Dialed, DialError> {
        let over_tls = target.scheme_str() == Some("https");
        let host = target.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned());
        let tcp = self.tcp.call(target).await;
        let tcp = tcp
            .map_err(|error| DialError::Tcp(error.into()))?
            .into_inner();
        let stream = if over_tls {
            let tls = self.tls.connect(name?, tcp).await;
            Either::Right(Box::new(tls.map_err(DialError::Tls)?))
        } else {
            Either::Left(tcp)
        };
        Ok(TokioIo::new(Wire::new(stream)))
    }
}

impl Service<Uri> for Dialer {
    type Response = Dialed;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Dialed, DialError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        Box::pin(self.clone().dial(target))
    }
}
