//! The programs under test: built fresh by the cargo that built the harness, in the same profile,
//! so that a run never tests yesterday's dispatcher.
//!
//! Built with `-p`, so that features of other members do not unify into the product.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use anyhow::{Context, bail};

/// A build that takes longer is announced.
const QUIET_BUILD_MAX: Duration = Duration::from_secs(2);
/// What cargo sets for a program that it runs; a build that inherited it would not be the build of
/// the command line, and would compile dependencies again.
const CARGO_PREFIXES: [&str; 5] = [
    "CARGO_PKG_",
    "CARGO_MANIFEST_",
    "CARGO_BIN_",
    "CARGO_CRATE_NAME",
    "CARGO_PRIMARY_PACKAGE",
];

/// The dispatcher: `CHAOS_DISPATCHER_BIN`, else built by cargo, else the one beside this program.
///
/// # Errors
/// When it cannot be built and no finished one is there.
pub fn dispatcher_binary() -> anyhow::Result<PathBuf> {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    once(&FOUND, "dispatcher", "CHAOS_DISPATCHER_BIN")
}

/// The mock receiver: `CHAOS_MOCK_RECEIVER_BIN`, else as [`dispatcher_binary`].
///
/// # Errors
/// As [`dispatcher_binary`].
pub fn mock_receiver_binary() -> anyhow::Result<PathBuf> {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    once(&FOUND, "mock-receiver", "CHAOS_MOCK_RECEIVER_BIN")
}

/// Found once for each process: a rebuild in the middle of a run would change what is tested.
fn once(found: &OnceLock<PathBuf>, package: &str, variable: &str) -> anyhow::Result<PathBuf> {
    static BUILDING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = BUILDING
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(path) = found.get() {
        return Ok(path.clone());
    }
    let path = find(package, variable)?;
    Ok(found.get_or_init(|| path).clone())
}

fn find(package: &str, variable: &str) -> anyhow::Result<PathBuf> {
    if let Some(given) = std::env::var_os(variable).filter(|given| !given.is_empty()) {
        let path = std::path::absolute(PathBuf::from(given))?;
        if !path.is_file() {
            bail!("{variable} names {}, which is no file", path.display());
        }
        return Ok(path);
    }
    let executable = std::env::current_exe().context("asking for the path of this program")?;
    let directory = profile_directory(&executable);
    if let (Some(cargo), Some(manifest)) = (cargo(), manifest()) {
        return build(&cargo, &manifest, package, &directory);
    }
    let beside = directory.join(package);
    if beside.is_file() {
        return Ok(beside);
    }
    bail!(
        "no {package}: neither cargo and the sources nor {} are there; set {variable}",
        beside.display()
    )
}

/// `target/<profile>` of a program, or of a test or bench in its `deps`.
fn profile_directory(executable: &Path) -> PathBuf {
    let parent = executable.parent().unwrap_or(Path::new("."));
    match parent.file_name() {
        Some(name) if name == "deps" || name == "examples" => {
            parent.parent().unwrap_or(parent).to_path_buf()
        }
        _ => parent.to_path_buf(),
    }
}

fn cargo() -> Option<PathBuf> {
    let at_run_time = std::env::var_os("CARGO").map(PathBuf::from);
    at_run_time
        .into_iter()
        .chain([PathBuf::from(env!("CARGO"))])
        .find(|path| path.is_file())
}

fn manifest() -> Option<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()?
        .join("Cargo.toml");
    manifest.is_file().then_some(manifest)
}

fn build(
    cargo: &Path,
    manifest: &Path,
    package: &str,
    profile_directory: &Path,
) -> anyhow::Result<PathBuf> {
    let mut command = Command::new(cargo);
    command
        .args([
            "build",
            "--quiet",
            "--message-format=json-render-diagnostics",
            "-p",
            package,
        ])
        .args(["--bin", package])
        .args(profile_arguments(profile_directory))
        .arg("--manifest-path")
        .arg(manifest);
    for (name, _) in std::env::vars_os() {
        if is_set_by_cargo(&name) {
            command.env_remove(name);
        }
    }
    let announced = announce_if_slow(package);
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .with_context(|| format!("running {} to build {package}", cargo.display()))?;
    drop(announced);
    if !output.status.success() {
        bail!(
            "building {package}:\n{}",
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    executable_of(&output.stdout, package)
        .with_context(|| format!("cargo built {package} and named no program"))
}

/// The arguments that make cargo build into the same directory as the running program.
fn profile_arguments(profile_directory: &Path) -> Vec<OsString> {
    let mut arguments = Vec::new();
    match profile_directory.file_name().and_then(|name| name.to_str()) {
        None | Some("debug") => {}
        Some("release") => arguments.push("--release".into()),
        Some(other) => arguments.extend(["--profile".into(), other.into()]),
    }
    // With `--target` there is a directory named after it in between, which holds no cache tag.
    if let Some(target) = profile_directory
        .parent()
        .filter(|dir| dir.join("CACHEDIR.TAG").is_file())
    {
        arguments.extend(["--target-dir".into(), target.into()]);
    }
    arguments
}

fn is_set_by_cargo(name: &OsString) -> bool {
    let name = name.to_string_lossy();
    CARGO_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The program named by cargo's messages, one JSON object a line.
fn executable_of(messages: &[u8], package: &str) -> Option<PathBuf> {
    messages.split(|&byte| byte == b'\n').find_map(|line| {
        let message: serde_json::Value = serde_json::from_slice(line).ok()?;
        let named =
            message["reason"] == "compiler-artifact" && message["target"]["name"] == package;
        named
            .then(|| message["executable"].as_str().map(PathBuf::from))
            .flatten()
    })
}

/// Says on stderr that a build runs, unless what is returned is dropped soon.
fn announce_if_slow(package: &str) -> mpsc::Sender<()> {
    let (done, waits) = mpsc::channel::<()>();
    let package = package.to_owned();
    std::thread::spawn(move || {
        if waits.recv_timeout(QUIET_BUILD_MAX) == Err(mpsc::RecvTimeoutError::Timeout) {
            let end = if std::io::stderr().is_terminal() {
                " …"
            } else {
                ""
            };
            eprintln!("building {package} (cargo build -p {package}){end}");
        }
    });
    done
}

/// A program as a report names it: below the working directory without the way there.
pub(crate) fn named(program: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    let below = program.strip_prefix(here).unwrap_or(program);
    below.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_and_programs_lead_to_the_same_profile_directory() {
        for path in ["/w/target/debug/chaos", "/w/target/debug/deps/proofs-1f"] {
            assert_eq!(
                profile_directory(Path::new(path)),
                Path::new("/w/target/debug")
            );
        }
    }

    #[test]
    fn the_profile_of_the_running_program_is_built() {
        assert!(profile_arguments(Path::new("/nowhere/debug")).is_empty());
        assert_eq!(
            profile_arguments(Path::new("/nowhere/release")),
            ["--release"]
        );
        assert_eq!(
            profile_arguments(Path::new("/nowhere/soak")),
            ["--profile", "soak"]
        );
    }

    #[test]
    fn the_program_is_taken_from_cargos_messages() {
        let messages =
            br#"{"reason":"compiler-artifact","target":{"name":"tokio"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"dispatcher"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"dispatcher"},"executable":"/t/debug/dispatcher"}
{"reason":"build-finished","success":true}"#;
        let found = executable_of(messages, "dispatcher");
        assert_eq!(found.as_deref(), Some(Path::new("/t/debug/dispatcher")));
        assert_eq!(executable_of(messages, "mock-receiver"), None);
    }

    #[test]
    fn what_cargo_sets_for_a_program_is_kept_from_the_build() {
        assert!(is_set_by_cargo(&"CARGO_PKG_NAME".into()));
        assert!(is_set_by_cargo(&"CARGO_MANIFEST_DIR".into()));
        assert!(!is_set_by_cargo(&"CARGO_HOME".into()));
        assert!(!is_set_by_cargo(&"CARGO_TARGET_DIR".into()));
    }
}
