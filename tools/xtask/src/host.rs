//! The machine that tasks run on: its programs and, where apt and root are there, its packages.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// What Envoy's Wasm runtimes take.
const WASM_TARGET: &str = "wasm32-wasip1";

/// Runs to the end with the output shown; an error names the command.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("start {}", shown(command)))?;
    if !status.success() {
        bail!("{}: {status}", shown(command));
    }
    Ok(())
}

/// True if the command runs and succeeds; its output is not shown.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The first program of that name on `PATH`.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Makes sure that the pinned toolchain can build for Envoy's Wasm runtime.
pub(crate) fn ensure_wasm_target() -> Result<()> {
    ensure_target(WASM_TARGET)
}

/// Makes sure that the pinned toolchain can build for `target`.
pub(crate) fn ensure_target(target: &str) -> Result<()> {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", target])
        .output()
        .context("run rustc")?;
    let libraries = String::from_utf8_lossy(&output.stdout);
    if output.status.success() && Path::new(libraries.trim()).is_dir() {
        println!("{target} is installed");
        return Ok(());
    }
    run(Command::new("rustup").args(["target", "add", target]))
        .with_context(|| format!("this Rust has no standard library for {target}; rustup adds it"))
}

/// Makes sure that tests find `program` on `PATH`: Debian's, if there is none.
pub(crate) fn ensure_program(program: &str, package: &str) -> Result<()> {
    if on_path(program).is_none() {
        apt_install(package).with_context(|| format!("or put {program} on PATH"))?;
    }
    match on_path(program) {
        Some(found) => println!("{}", found.display()),
        None => bail!("there is still no {program} on PATH"),
    }
    Ok(())
}

/// Installs a Debian package, where this process may do so.
pub(crate) fn apt_install(package: &str) -> Result<()> {
    if on_path("apt-get").is_none() {
        bail!("the package {package} is missing and there is no apt-get");
    }
    let id = Command::new("id").arg("-u").output().context("run id -u")?;
    if id.stdout.trim_ascii() != b"0" {
        bail!("the package {package} is missing: run `apt-get install {package}` as root");
    }
    println!("installing the package {package}");
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command
            .args(args)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null());
        command
    };
    let install = [
        "install",
        "--yes",
        "--quiet",
        "--no-install-recommends",
        package,
    ];
    if succeeds(&mut apt(&install)) {
        return Ok(());
    }
    // The lists may be old or absent, as in a container image.
    run(&mut apt(&["update", "--quiet"]))?;
    run(&mut apt(&install))
}

/// A command as one would type it, roughly.
pub(crate) fn shown(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}
