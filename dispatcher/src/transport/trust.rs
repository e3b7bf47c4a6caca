//! Whom TLS trusts: the authorities of the system, and those of `EXTRA_CA_FILE`.

use rustls::{ClientConfig, RootCertStore};

use super::TransportError;

/// The settings of every handshake.
pub(super) fn client_config(extra: &RootCertStore) -> Result<ClientConfig, TransportError> {
    let mut roots = extra.clone();
    let system = rustls_native_certs::load_native_certs();
    // One that cannot be read is no reason to distrust the others.
    let (_, unread) = roots.add_parsable_certificates(system.certs);
    if unread > 0 || !system.errors.is_empty() {
        let errors = system.errors;
        tracing::warn!(
            unread,
            ?errors,
            "some authorities of the system cannot be used"
        );
    }
    if roots.is_empty() {
        return Err(TransportError);
    }
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
