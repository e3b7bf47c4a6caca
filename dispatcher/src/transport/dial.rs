//! Makes connections: names to permitted addresses, TCP to one of them, and TLS where the URL asks for it.

use std::convert::Infallible;
use std::error::Error;
use std::future::ready;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use tower::{Service, service_fn};

use super::resolve::{GuardedResolver, ResolveError};
use super::shortage::{self, NotSent};
use super::wire::Wire;

/// Dials targets; the client's pool asks it when no kept connection will do.
#[derive(Clone)]
pub(super) struct Dialer {
    resolver: GuardedResolver,
    tls: TlsConnector,
}

/// A connection as the client takes it.
pub(super) type Dialed = TokioIo<Wire<Either<TcpStream, Box<TlsStream<TcpStream>>>>>;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    /// No address.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// No address that takes a connection.
    #[error("no connection")]
    Tcp(#[source] Box<dyn Error + Send + Sync>),
    /// Nothing left this machine.
    #[error(transparent)]
    NotSent(#[from] NotSent),
    /// The handshake failed or was broken off.
    #[error("no TLS")]
    Tls(#[source] io::Error),
    /// The host cannot stand in a certificate.
    #[error(transparent)]
    Name(#[from] InvalidDnsNameError),
}

impl Dialer {
    pub(super) fn new(resolver: GuardedResolver, tls: Arc<ClientConfig>) -> Self {
        Self {
            resolver,
            tls: tls.into(),
        }
    }

    async fn dial(self, target: Uri) -> Result<Dialed, DialError> {
        let over_tls = target.scheme_str() == Some("https");
        let host = target.host().unwrap_or_default();
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let tcp = self.connect(target, &host).await?;
        let stream = if over_tls {
            let tls = self.tls.connect(ServerName::try_from(host)?, tcp).await;
            Either::Right(Box::new(tls.map_err(DialError::Tls)?))
        } else {
            Either::Left(tcp)
        };
        Ok(TokioIo::new(Wire::new(stream)))
    }

    /// Resolved first, so that it is known what was dialled when it fails. A literal address was looked at before.
    async fn connect(&self, target: Uri, host: &str) -> Result<TcpStream, DialError> {
        let addresses = match host.parse::<IpAddr>() {
            Ok(literal) => vec![SocketAddr::new(literal, 0)],
            Err(_) => self.resolver.resolve(host).await?,
        };
        let found = addresses.clone();
        let resolved =
            service_fn(move |_: Name| ready(Ok::<_, Infallible>(found.clone().into_iter())));
        let mut tcp = HttpConnector::new_with_resolver(resolved);
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        match tcp.call(target).await {
            Ok(connected) => Ok(connected.into_inner()),
            Err(error) => Err(match shortage::of_connecting(&error, &addresses) {
                Some(shortage) => shortage.into(),
                None => DialError::Tcp(error.into()),
            }),
        }
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
