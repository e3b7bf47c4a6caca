//! The dispatcher's image for the container driver: the binary that was built on this host, its
//! shared libraries and the TLS certificates.
//!
//! The image has no base image, so that no registry is required. Its tag is a hash of its content:
//! each binary is built into an image once, and a changed binary gets another tag.

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

use super::driver::SystemError;
use crate::host::engine::with_causes;

/// Repository of the images.
pub(super) const REPOSITORY: &str = "local/chaos-dispatcher";
/// Time limit of a build, which copies about 100 MB.
const BUILD_TIMEOUT: Duration = Duration::from_secs(180);
/// Time limit of `ldd`.
const LDD_TIMEOUT: Duration = Duration::from_secs(20);
/// Size of the buffer for hashing a file, in bytes.
const HASH_CHUNK_BYTES: usize = 1024 * 1024;
/// Files in which distributions keep the certificates of public authorities.
const CERTIFICATES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
/// Path of the certificates in the image. TLS libraries try it first.
const CERTIFICATES_IN_IMAGE: &str = "etc/ssl/certs/ca-certificates.crt";
/// No account on the host has this user id, and a worker needs no privileges.
const DOCKERFILE: &str = "FROM scratch\nCOPY root/ /\nUSER 10001\nENTRYPOINT [\"/program\"]\n";

/// Builds the image that runs `program`, unless it exists.
///
/// # Errors
/// If a library is missing, a file cannot be read, or the engine fails or exceeds 180 s.
pub(super) async fn build(program: &Path) -> Result<GenericImage, SystemError> {
    let failed = |why: String| SystemError::Engine {
        doing: format!("building an image for {}", program.display()),
        why,
    };
    let files = contents(program).await.map_err(failed)?;
    let tag = content_hash(&files).map_err(|error| failed(error.to_string()))?;
    let mut image = GenericBuildableImage::new(REPOSITORY, tag).with_dockerfile_string(DOCKERFILE);
    for file in files {
        image = image.with_file(file.source, format!("root/{}", file.path));
    }
    let options = BuildImageOptions::new().with_skip_if_exists(true);
    timeout(BUILD_TIMEOUT, image.build_image_with(options))
        .await
        .map_err(|_| failed(format!("not built within {} s", BUILD_TIMEOUT.as_secs())))?
        .map_err(|error| failed(with_causes(&error)))
}

/// One file of the image.
struct ImageFile {
    /// File on the host.
    source: PathBuf,
    /// Path in the image, without the leading slash.
    path: String,
}

/// Lists the files of the image: the program, its libraries and the certificates.
async fn contents(program: &Path) -> Result<Vec<ImageFile>, String> {
    let mut files = vec![ImageFile { source: program.to_path_buf(), path: "program".to_owned() }];
    for library in libraries(program).await? {
        let path = library.trim_start_matches('/').to_owned();
        let source = PathBuf::from(library);
        files.push(ImageFile { source, path });
    }
    if let Some(source) = CERTIFICATES.iter().map(Path::new).find(|path| path.is_file()) {
        files.push(ImageFile {
            source: source.to_path_buf(),
            path: CERTIFICATES_IN_IMAGE.to_owned(),
        });
    }
    Ok(files)
}

async fn libraries(program: &Path) -> Result<BTreeSet<String>, String> {
    let mut ldd = Command::new("ldd");
    ldd.arg(program).kill_on_drop(true);
    let output = timeout(LDD_TIMEOUT, ldd.output())
        .await
        .map_err(|_| format!("ldd did not end within {} s", LDD_TIMEOUT.as_secs()))?
        .map_err(|error| format!("ldd: {error}"))?;
    // The exit status is not checked: ldd fails on a static program, which has no libraries.
    libraries_in(&String::from_utf8_lossy(&output.stdout))
}

/// Returns the absolute paths in the output of `ldd`, which has lines such as
/// `name => /path (address)` and `/loader (address)`.
fn libraries_in(text: &str) -> Result<BTreeSet<String>, String> {
    let mut found = BTreeSet::new();
    for line in text.lines() {
        if line.contains("not found") {
            return Err(format!("a library is missing: {}", line.trim()));
        }
        found.extend(line.split_whitespace().find(|w| w.starts_with('/')).map(str::to_owned));
    }
    Ok(found)
}

fn content_hash(files: &[ImageFile]) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    hash.update(DOCKERFILE);
    let mut chunk = vec![0; HASH_CHUNK_BYTES];
    for file in files {
        hash.update(&file.path);
        let mut file = std::fs::File::open(&file.source)?;
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
    fn libraries_are_read_from_the_output_of_ldd() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                    \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let found: Vec<_> = libraries_in(text).unwrap().into_iter().collect();
        assert_eq!(found, ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]);
        assert!(libraries_in("\tstatically linked\n").unwrap().is_empty());
        assert!(libraries_in("\tlibx.so => not found\n").unwrap_err().contains("libx.so"));
    }

    #[test]
    fn hash_depends_on_content_and_path() {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("a");
        let hash_at = |path: &str| {
            let file = ImageFile { source: source.clone(), path: path.into() };
            content_hash(&[file]).unwrap()
        };
        std::fs::write(&source, "one").unwrap();
        let first = hash_at("x");
        assert_ne!(first, hash_at("y"));
        std::fs::write(&source, "two").unwrap();
        assert_ne!(first, hash_at("x"));
    }
}
