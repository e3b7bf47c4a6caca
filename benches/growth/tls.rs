//! Receivers behind TLS, with a certificate authority that the dispatcher trusts by
//! `EXTRA_CA_FILE`.
//!
//! They respond to each request with 200 and check no signature. Connections are kept.

use std::sync::Arc;

use benches::load::content_length;
use benches::path::TARGETS;
use benches::table::Row;
use mock_receiver::{Behavior, script};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::compare::Growth;

const ADDRESS: &str = "127.0.0.1";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
/// Limit for a request.
const REQUEST_BYTES_MAX: usize = 1 << 20;

pub(crate) async fn receivers(growth: &Growth) -> anyhow::Result<Vec<Row>> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("authority.pem");
    let authority = authority()?;
    std::fs::write(&file, authority.pem())?;
    let acceptor = TlsAcceptor::from(Arc::new(server(&authority)?));
    let mut serving = JoinSet::new();
    let mut targets = Vec::new();
    for _ in 0..TARGETS {
        let listener = TcpListener::bind((ADDRESS, 0)).await?;
        targets.push(format!("https://{}/webhook", listener.local_addr()?));
        serving.spawn(accept(listener, acceptor.clone()));
    }
    let settings = [("EXTRA_CA_FILE", file.to_str().unwrap_or_default())];
    let mut sides = growth.sides(&settings, &script::always(Behavior::answer(200))).await?;
    sides.grown.targets = targets;
    growth.compare("TLS receivers", &mut sides).await
}

fn authority() -> anyhow::Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

fn server(authority: &CertifiedIssuer<'static, KeyPair>) -> anyhow::Result<ServerConfig> {
    let key = KeyPair::generate()?;
    let params = CertificateParams::new(vec![ADDRESS.to_owned()])?;
    let chain = vec![params.signed_by(&key, authority)?.der().clone()];
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    Ok(ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?)
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor) {
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            // A connection that fails shows as a failed attempt at the dispatcher.
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _ = serve(&mut stream).await;
            }
        });
    }
}

/// Responds until the peer closes the connection.
async fn serve(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> std::io::Result<()> {
    let mut received = Vec::new();
    loop {
        while let Some(length) = request_length(&received) {
            received.drain(..length);
            stream.write_all(RESPONSE).await?;
            stream.flush().await?;
        }
        if stream.read_buf(&mut received).await? == 0 || received.len() > REQUEST_BYTES_MAX {
            return Ok(());
        }
    }
}

/// Length of the first request with its body. `None` if it is not complete.
fn request_length(received: &[u8]) -> Option<usize> {
    let head = received.windows(4).position(|part| part == b"\r\n\r\n")?;
    let text = std::str::from_utf8(&received[..head]).ok()?;
    let body = content_length(text).unwrap_or(0);
    let length = head + 4 + body;
    (received.len() >= length).then_some(length)
}
