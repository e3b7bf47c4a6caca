//! Opens connections: resolves the name to permitted addresses, connects by TCP to one of them, and
//! adds TLS for `https`.

use std::convert::Infallible;
use std::future::ready;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use tower::{Service, service_fn};

use super::error::DialError;
use super::exhaustion;
use super::resolve::GuardedResolver;
use super::wire::Wire;

/// Connector of the HTTP client, which calls it if no idle connection to the host is open.
#[derive(Clone)]
pub(super) struct Dialer {
    resolver: GuardedResolver,
    tls: TlsConnector,
}

/// A connection in the form that the client requires.
pub(super) type Dialed = TokioIo<Wire<Either<TcpStream, Box<TlsStream<TcpStream>>>>>;

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

    /// Resolves the name before it connects, because the classification of a failure depends on the
    /// dialed addresses. `HttpTransport::exchange` has already checked a literal address.
    async fn connect(&self, target: Uri, host: &str) -> Result<TcpStream, DialError> {
        let addresses = match host.parse::<IpAddr>() {
            Ok(literal) => vec![SocketAddr::new(literal, 0)],
            Err(_) => self.resolver.resolve(host).await?,
        };
        let dialed = addresses.clone();
        let resolved =
            service_fn(move |_: Name| ready(Ok::<_, Infallible>(dialed.clone().into_iter())));
        let mut tcp = HttpConnector::new_with_resolver(resolved);
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        match tcp.call(target).await {
            Ok(connected) => Ok(connected.into_inner()),
            Err(error) => Err(match exhaustion::of_connecting(&error, &addresses) {
                Some(exhausted) => exhausted.into(),
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
