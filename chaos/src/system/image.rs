//! The dispatcher's image for the container driver: the host-built binary, the libraries that it
//! loads and the certificates, from scratch, so that no base image and no registry is needed.
//!
//! The tag is a hash of the content: an image is built once, and a changed binary gets another one.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use testcontainers::core::BuildImageOptions;
use testcontainers::runners::AsyncBuilder;
use testcontainers::{GenericBuildableImage, GenericImage};
use tokio::process::Command;
use tokio::time::timeout;

use super::SystemError;
use super::engine::told;

/// Repository of the images.
pub(super) const REPOSITORY: &str = "local/chaos-dispatcher";
/// Bound of a build, seconds: it copies some 100 MB.
const BUILD_SECONDS_MAX: Duration = Duration::from_secs(180);
/// Bound of `ldd`, seconds.
const LDD_SECONDS_MAX: Duration = Duration::from_secs(20);
/// Bytes of a file that are hashed at a time.
const HASH_CHUNK_BYTES: usize = 1024 * 1024;
/// Where distributions keep the certificates of public authorities.
const CERTIFICATES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];
/// Where the image keeps them: the first place that TLS libraries look at.
const CERTIFICATES_INSIDE: &str = "etc/ssl/certs/ca-certificates.crt";
/// The user is a number that no host account has; a worker needs no right at all.
const DOCKERFILE: &str = "FROM scratch\nCOPY root/ /\nUSER 10001\nENTRYPOINT [\"/program\"]\n";

/// The image around `program`, built unless it exists.
pub(super) async fn around(program: &Path) -> Result<GenericImage, SystemError> {
    let failed = |why: String| SystemError::Engine {
        doing: format!("building an image around {}", program.display()),
        why,
    };
    let files = contents(program).await.map_err(failed)?;
    let tag = content_hash(&files).map_err(|error| failed(error.to_string()))?;
    let mut image = GenericBuildableImage::new(REPOSITORY, tag).with_dockerfile_string(DOCKERFILE);
    for (source, inside) in files {
        image = image.with_file(source, format!("root/{inside}"));
    }
    let options = BuildImageOptions::new().with_skip_if_exists(true);
    timeout(BUILD_SECONDS_MAX, image.build_image_with(options))
        .await
        .map_err(|_| {
            failed(format!(
                "not built within {} s",
                BUILD_SECONDS_MAX.as_secs()
            ))
        })?
        .map_err(|error| failed(told(&error)))
}

/// What goes into the image: file on the host, path inside without the leading slash.
async fn contents(program: &Path) -> Result<Vec<(PathBuf, String)>, String> {
    let mut files = vec![(program.to_path_buf(), "program".to_owned())];
    for library in libraries(program).await? {
        let inside = library.trim_start_matches('/').to_owned();
        files.push((PathBuf::from(library), inside));
    }
    if let Some(found) = CERTIFICATES
        .iter()
        .map(Path::new)
        .find(|path| path.is_file())
    {
        files.push((found.to_path_buf(), CERTIFICATES_INSIDE.to_owned()));
    }
    Ok(files)
}

async fn libraries(program: &Path) -> Result<BTreeSet<String>, String> {
    let mut ldd = Command::new("ldd");
    ldd.arg(program).kill_on_drop(true);
    let output = timeout(LDD_SECONDS_MAX, ldd.output())
        .await
        .map_err(|_| "ldd does not answer".to_owned())?
        .map_err(|error| format!("ldd: {error}"))?;
    // A static program is no failure: ldd says so and there is nothing to copy.
    libraries_in(&String::from_utf8_lossy(&output.stdout))
}

/// Absolute paths in what `ldd` says: `name => /path (address)` or `/loader (address)`.
fn libraries_in(text: &str) -> Result<BTreeSet<String>, String> {
    let mut found = BTreeSet::new();
    for line in text.lines() {
        if line.contains("not found") {
            return Err(format!("a library is missing: {}", line.trim()));
        }
        found.extend(
            line.split_whitespace()
                .find(|w| w.starts_with('/'))
                .map(str::to_owned),
        );
    }
    Ok(found)
}

fn content_hash(files: &[(PathBuf, String)]) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    hash.update(DOCKERFILE);
    let mut chunk = vec![0; HASH_CHUNK_BYTES];
    for (source, inside) in files {
        hash.update(inside);
        let mut file = std::fs::File::open(source)?;
        loop {
            match file.read(&mut chunk)? {
                0 => break,
                bytes => hash.update(&chunk[..bytes]),
            }
        }
    }
    Ok(hex::encode(&hash.finalize()[..8]))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

    use super::*;

    #[test]
    fn libraries_are_read_from_what_ldd_says() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                    \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let found: Vec<_> = libraries_in(text).unwrap().into_iter().collect();
        assert_eq!(
            found,
            [
                "/lib/x86_64-linux-gnu/libc.so.6",
                "/lib64/ld-linux-x86-64.so.2"
            ]
        );
        assert!(libraries_in("\tstatically linked\n").unwrap().is_empty());
        assert!(
            libraries_in("\tlibx.so => not found\n")
                .unwrap_err()
                .contains("libx.so")
        );
    }

    #[test]
    fn the_hash_follows_content_and_place() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        std::fs::write(&path, "one").unwrap();
        let first = content_hash(&[(path.clone(), "x".into())]).unwrap();
        assert_ne!(first, content_hash(&[(path.clone(), "y".into())]).unwrap());
        std::fs::write(&path, "two").unwrap();
        assert_ne!(first, content_hash(&[(path, "x".into())]).unwrap());
    }
}
