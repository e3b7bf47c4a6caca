//! Parsers of single values. Each error completes the sentence "NAME=value …" and contains the fix.

use std::net::SocketAddr;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{LevelFilter, ParseError};

use crate::signature::is_quoted;

/// Reason why a value is invalid.
#[derive(Debug, thiserror::Error)]
pub(super) enum ValueError {
    #[error("is not an address and port: set one like 127.0.0.1:8000")]
    Address,
    #[error("is invalid: set text or json")]
    LogFormat,
    #[error("is not a filter ({0}): set one like info or info,dispatcher=debug")]
    LogFilter(#[source] ParseError),
    #[error("contains {0:?}, which is not a level: set one like info or info,dispatcher=debug")]
    LogLevel(String),
    #[error("has an empty entry: set filters separated by single commas")]
    EmptyFilter,
    #[error("is blank: set a key, or remove the variable to require no key")]
    NoKey,
    #[error("has an empty entry: set keys separated by single commas")]
    EmptyKey,
    #[error("has a key in quotes: remove the quotes")]
    QuotedKey,
    #[error("has a key with characters that an HTTP header cannot contain: use visible ASCII")]
    KeyCharacters,
    #[error("cannot be read ({0}): set the path of a PEM file")]
    UnreadableFile(#[source] std::io::Error),
    #[error("is not a PEM file ({0}): set the path of a file of certificates")]
    NotPem(#[source] pem::Error),
    #[error("contains a certificate that cannot be trusted ({0}): remove or replace it")]
    BadCertificate(#[source] rustls::Error),
    #[error("contains no certificate: set the path of a PEM file with at least one")]
    NoCertificate,
}

pub(super) fn address(text: &str) -> Result<SocketAddr, ValueError> {
    text.parse().map_err(|_| ValueError::Address)
}

/// Returns true for `json`.
pub(super) fn is_json(text: &str) -> Result<bool, ValueError> {
    match text {
        "text" => Ok(false),
        "json" => Ok(true),
        _ => Err(ValueError::LogFormat),
    }
}

/// A single word must be a level. As the name of a module, a mistyped level would turn off all
/// logs.
pub(super) fn log_filter(text: &str) -> Result<String, ValueError> {
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    let text = parts.join(",");
    EnvFilter::try_new(&text).map_err(ValueError::LogFilter)?;
    for part in parts {
        if part.is_empty() && !text.is_empty() {
            return Err(ValueError::EmptyFilter);
        }
        let is_word = !part.is_empty() && !part.contains(['=', '[']);
        if is_word && part.parse::<LevelFilter>().is_err() {
            return Err(ValueError::LogLevel(part.to_owned()));
        }
    }
    Ok(text)
}

/// A blank text is refused: an empty variable of a deployment must not open the API.
pub(super) fn api_keys(text: &str) -> Result<Vec<String>, ValueError> {
    if text.is_empty() {
        return Err(ValueError::NoKey);
    }
    if is_quoted(text) {
        return Err(ValueError::QuotedKey);
    }
    let keys = text.split(',').map(|key| {
        let key = key.trim();
        if key.is_empty() {
            return Err(ValueError::EmptyKey);
        }
        if is_quoted(key) {
            return Err(ValueError::QuotedKey);
        }
        if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ValueError::KeyCharacters);
        }
        Ok(key.to_owned())
    });
    keys.collect()
}

/// Reads the file `path`. Every certificate in it must be valid. An empty `path` adds no authority.
pub(super) fn authorities(path: &str) -> Result<RootCertStore, ValueError> {
    let mut roots = RootCertStore::empty();
    if path.is_empty() {
        return Ok(roots);
    }
    let pem = std::fs::read(path).map_err(ValueError::UnreadableFile)?;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(ValueError::NotPem)?;
        roots.add(certificate).map_err(ValueError::BadCertificate)?;
    }
    if roots.is_empty() {
        return Err(ValueError::NoCertificate);
    }
    Ok(roots)
}
