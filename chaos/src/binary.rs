//! Builds the programs under test before a run, so that a run never tests an outdated dispatcher.
//!
//! The build uses the toolchain and the profile that built the harness. It builds one package with
//! `-p`, because a workspace build would enable features that only other members need.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use anyhow::{Context, bail};

/// A build that takes longer than this is reported on stderr.
const QUIET_BUILD_MAX: Duration = Duration::from_secs(2);
/// Prefixes of the variables that `cargo run` sets. A build that inherited them would compile the
/// dependencies again.
const CARGO_PREFIXES: [&str; 5] =
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE"];

/// The toolchain that built the harness. rustup sets this variable for each cargo that it starts.
///
/// Without it, a rustup proxy of `rustc` obeys the `rust-toolchain` file of each dependency, and
/// the build fails because that old toolchain is not installed.
const BUILT_WITH: Option<&str> = option_env!("RUSTUP_TOOLCHAIN");
const RUSTUP_TOOLCHAIN: &str = "RUSTUP_TOOLCHAIN";

/// Returns the path of the dispatcher: `CHAOS_DISPATCHER_BIN`, else a fresh build, else the
/// program in the directory of this one.
///
/// # Errors
/// Returns an error if the build fails, or if neither sources nor a built program exist.
pub fn dispatcher_binary() -> anyhow::Result<PathBuf> {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    once(&FOUND, "dispatcher", "CHAOS_DISPATCHER_BIN")
}

/// Returns the path of the mock receiver: `CHAOS_MOCK_RECEIVER_BIN`, else as [`dispatcher_binary`].
///
/// # Errors
/// Returns the errors of [`dispatcher_binary`].
pub fn mock_receiver_binary() -> anyhow::Result<PathBuf> {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    once(&FOUND, "mock-receiver", "CHAOS_MOCK_RECEIVER_BIN")
}

/// Builds a program at most once per process: a rebuild during a run would change the program
/// under test.
fn once(found: &OnceLock<PathBuf>, package: &str, variable: &str) -> anyhow::Result<PathBuf> {
    static BUILDING: Mutex<()> = Mutex::new(());
    let _guard = BUILDING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
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
            bail!(
                "{variable}={} is not a file: set the path of a built {package}, or unset it",
                path.display()
            );
        }
        return Ok(path);
    }
    let executable = std::env::current_exe().context("finding the path of this program")?;
    let directory = profile_directory(&executable);
    if let (Some(toolchain), Some(workspace)) = (Toolchain::find(), workspace()) {
        let build = build_command(&toolchain, &workspace, package, &directory);
        return build_program(build, package, variable);
    }
    let built = directory.join(package);
    if built.is_file() {
        return Ok(built);
    }
    bail!(
        "cannot find {package}: {} does not exist, and cargo or the sources are missing: \
         set {variable} to the path of a built {package}",
        built.display()
    )
}

/// Returns `target/<profile>` for a program, or for a test or benchmark in its `deps`.
fn profile_directory(executable: &Path) -> PathBuf {
    let parent = executable.parent().unwrap_or(Path::new("."));
    match parent.file_name() {
        Some(name) if name == "deps" || name == "examples" => {
            parent.parent().unwrap_or(parent).to_path_buf()
        }
        _ => parent.to_path_buf(),
    }
}

/// The cargo of a build, and the rustup toolchain that its compiler must come from.
struct Toolchain {
    cargo: PathBuf,
    /// `None` if the environment selects the toolchain already, or if rustup is not in use.
    rustup: Option<&'static str>,
}

impl Toolchain {
    /// Returns the toolchain of the surrounding `cargo run` or `cargo test`, else the toolchain
    /// that built the harness, if it is still installed.
    fn find() -> Option<Self> {
        let surrounding = std::env::var_os("CARGO").map(PathBuf::from);
        if let Some(cargo) = surrounding.filter(|path| path.is_file()) {
            let rustup = None;
            return Some(Self { cargo, rustup });
        }
        Self::of_harness()
    }

    fn of_harness() -> Option<Self> {
        let cargo = PathBuf::from(env!("CARGO"));
        let rustup = BUILT_WITH;
        cargo.is_file().then_some(Self { cargo, rustup })
    }
}

/// Returns the root of the workspace, if its sources still exist.
fn workspace() -> Option<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    let has_manifest = workspace.join("Cargo.toml").is_file();
    has_manifest.then(|| workspace.to_path_buf())
}

fn build_command(
    toolchain: &Toolchain,
    workspace: &Path,
    package: &str,
    profile_directory: &Path,
) -> Command {
    let mut command = Command::new(&toolchain.cargo);
    command
        .args(["build", "--quiet"])
        .arg("--message-format=json-render-diagnostics")
        .args(["-p", package, "--bin", package])
        .args(profile_arguments(profile_directory))
        .arg("--manifest-path")
        .arg(workspace.join("Cargo.toml"))
        // cargo reads `.cargo/config.toml` from its working directory.
        .current_dir(workspace)
        .stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if is_set_by_cargo(&name) {
            command.env_remove(name);
        }
    }
    if let Some(rustup) = toolchain.rustup {
        command.env(RUSTUP_TOOLCHAIN, rustup);
    }
    command
}

fn build_program(mut build: Command, package: &str, variable: &str) -> anyhow::Result<PathBuf> {
    let announcement = announce_if_slow(package);
    let output = build.output().with_context(|| {
        format!("starting {} to build {package}", build.get_program().display())
    })?;
    drop(announcement);
    if !output.status.success() {
        bail!(
            "building {package} failed; fix: start the harness with `cargo run -p chaos`, or set \
             {variable} to the path of a built {package}\n{}",
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    executable_of(&output.stdout, package)
        .with_context(|| format!("cargo built {package} but reported no executable"))
}

/// Returns the arguments that make cargo build into the directory of the running program.
fn profile_arguments(profile_directory: &Path) -> Vec<OsString> {
    let mut arguments = Vec::new();
    match profile_directory.file_name().and_then(|name| name.to_str()) {
        None | Some("debug") => {}
        Some("release") => arguments.push("--release".into()),
        Some(other) => arguments.extend(["--profile".into(), other.into()]),
    }
    // A build with `--target` adds a directory level, and that directory has no cache tag.
    if let Some(target) =
        profile_directory.parent().filter(|dir| dir.join("CACHEDIR.TAG").is_file())
    {
        arguments.extend(["--target-dir".into(), target.into()]);
    }
    arguments
}

fn is_set_by_cargo(name: &OsString) -> bool {
    let name = name.to_string_lossy();
    CARGO_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Returns the executable that cargo reported. Each line of its messages is one JSON object.
fn executable_of(messages: &[u8], package: &str) -> Option<PathBuf> {
    messages.split(|&byte| byte == b'\n').find_map(|line| {
        let message: serde_json::Value = serde_json::from_slice(line).ok()?;
        let is_artifact = message["reason"] == "compiler-artifact";
        (is_artifact && message["target"]["name"] == package)
            .then(|| message["executable"].as_str().map(PathBuf::from))
            .flatten()
    })
}

/// Prints a line on stderr if the returned sender is not dropped within [`QUIET_BUILD_MAX`].
fn announce_if_slow(package: &str) -> mpsc::Sender<()> {
    let (done, end) = mpsc::channel::<()>();
    let package = package.to_owned();
    std::thread::spawn(move || {
        if end.recv_timeout(QUIET_BUILD_MAX) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("building {package} (cargo build -p {package})");
        }
    });
    done
}

/// Returns the name of a program for a report: relative to the working directory if it is in it.
pub(crate) fn named(program: &Path) -> String {
    let current = std::env::current_dir().unwrap_or_default();
    let relative = program.strip_prefix(current).unwrap_or(program);
    relative.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_and_programs_share_a_profile_directory() {
        for path in ["/w/target/debug/chaos", "/w/target/debug/deps/proofs-1f"] {
            assert_eq!(profile_directory(Path::new(path)), Path::new("/w/target/debug"));
        }
    }

    #[test]
    fn build_uses_the_profile_of_the_running_program() {
        assert!(profile_arguments(Path::new("/nowhere/debug")).is_empty());
        assert_eq!(profile_arguments(Path::new("/nowhere/release")), ["--release"]);
        assert_eq!(profile_arguments(Path::new("/nowhere/soak")), ["--profile", "soak"]);
    }

    // Started from a shell, the harness once built with a rustup proxy that obeyed the
    // `rust-toolchain` file of a dependency.
    #[test]
    fn build_uses_the_toolchain_that_built_the_harness() {
        let toolchain = Toolchain { cargo: "/toolchain/bin/cargo".into(), rustup: Some("stable") };
        let profile = Path::new("/w/target/release");
        let build = build_command(&toolchain, Path::new("/w"), "dispatcher", profile);
        let mut variables = build.get_envs();
        let selected = variables.find(|(name, _)| *name == RUSTUP_TOOLCHAIN);
        let stable = Some(std::ffi::OsStr::new("stable"));
        assert_eq!(selected.map(|(_, value)| value), Some(stable));
        assert_eq!(build.get_program(), "/toolchain/bin/cargo");
        assert_eq!(build.get_current_dir(), Some(Path::new("/w")));
    }

    #[test]
    fn executable_is_read_from_cargo_messages() {
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
    fn variables_of_cargo_run_are_removed_from_the_build() {
        assert!(is_set_by_cargo(&"CARGO_PKG_NAME".into()));
        assert!(is_set_by_cargo(&"CARGO_MANIFEST_DIR".into()));
        assert!(!is_set_by_cargo(&"CARGO_HOME".into()));
        assert!(!is_set_by_cargo(&"CARGO_TARGET_DIR".into()));
    }
}
