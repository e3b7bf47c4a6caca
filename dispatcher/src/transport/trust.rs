//! Certificate authorities for TLS: those of the system and those of `EXTRA_CA_FILE`.

use rustls::{ClientConfig, RootCertStore};

use super::error::TransportError;

/// Returns the TLS configuration of all connections.
pub(super) fn client_config(extra: &RootCertStore) -> Result<ClientConfig, TransportError> {
    let mut roots = extra.clone();
    let system = rustls_native_certs::load_native_certs();
    // An unreadable certificate does not make the other ones untrustworthy.
    let (_, unread) = roots.add_parsable_certificates(system.certs);
    if unread > 0 || !system.errors.is_empty() {
        tracing::warn!(
            unread,
            errors = ?system.errors,
            "some certificate authorities of the system are unreadable and not trusted"
        );
    }
    if roots.is_empty() {
        return Err(TransportError);
    }
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
