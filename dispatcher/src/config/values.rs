//! Parsers of single values. Each error completes the sentence "NAME=value …" and contains the fix.

use std::net::SocketAddr;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::signature::is_quoted;

pub(super) fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "is not an address and port: set one like 127.0.0.1:8000")
}

/// Returns true for `json`.
pub(super) fn is_json(text: &str) -> Result<bool, &'static str> {
    match text {
        "text" => Ok(false),
        "json" => Ok(true),
        _ => Err("is invalid: set text or json"),
    }
}

/// A single word must be a level. As the name of a module, a mistyped level would turn off all
/// logs.
pub(super) fn log_filter(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    let text = parts.join(",");
    let fix = "set one like info or info,dispatcher=debug";
    EnvFilter::try_new(&text).map_err(|error| format!("is not a filter ({error}): {fix}"))?;
    for part in parts {
        if part.is_empty() && !text.is_empty() {
            return Err("has an empty entry: set filters separated by single commas".to_owned());
        }
        let is_word = !part.is_empty() && !part.contains(['=', '[']);
        if is_word && part.parse::<LevelFilter>().is_err() {
            return Err(format!("contains {part:?}, which is not a level: {fix}"));
        }
    }
    Ok(text)
}

/// A blank text is refused: an empty variable of a deployment must not open the API.
pub(super) fn api_keys(text: &str) -> Result<Vec<String>, &'static str> {
    if text.is_empty() {
        return Err("is blank: set a key, or remove the variable to require no key");
    }
    let quoted = "has a key in quotes: remove the quotes";
    if is_quoted(text) {
        return Err(quoted);
    }
    let keys = text.split(',').map(|key| {
        let key = key.trim();
        if key.is_empty() {
            return Err("has an empty entry: set keys separated by single commas");
        }
        if is_quoted(key) {
            return Err(quoted);
        }
        if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(
                "has a key with characters that an HTTP header cannot contain: use visible ASCII",
            );
        }
        Ok(key.to_owned())
    });
    keys.collect()
}

/// Reads the file `path`. Every certificate in it must be valid. An empty `path` adds no authority.
pub(super) fn authorities(path: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    if path.is_empty() {
        return Ok(roots);
    }
    let pem = std::fs::read(path)
        .map_err(|error| format!("cannot be read ({error}): set the path of a PEM file"))?;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| {
            format!("is not a PEM file ({error}): set the path of a file of certificates")
        })?;
        roots.add(certificate).map_err(|error| {
            format!("contains a certificate that cannot be trusted ({error}): remove or replace it")
        })?;
    }
    if roots.is_empty() {
        let fix = "set the path of a PEM file with at least one";
        return Err(format!("contains no certificate: {fix}"));
    }
    Ok(roots)
}
