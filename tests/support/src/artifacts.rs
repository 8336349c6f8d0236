//! Where the built parts are: the aggregator's binary, the Wasm modules, Envoy. Each error says
//! what builds it.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use common_names::Role;

/// Environment variable that names the aggregator's binary.
pub const MESHMETER_BIN: &str = "MESHMETER_BIN";
/// Environment variable that names the binary of the mesh.
pub const MESHMETER_MESH_BIN: &str = "MESHMETER_MESH_BIN";
/// Environment variable that names the directory of the Wasm modules.
pub const MESHMETER_WASM_DIR: &str = "MESHMETER_WASM_DIR";
/// Environment variable that names the directory of the dynamic module.
pub const MESHMETER_MODULE_DIR: &str = "MESHMETER_MODULE_DIR";
/// Environment variable that names the Envoy binary.
pub const ENVOY_BIN: &str = "ENVOY_BIN";

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Module {
    /// `meshmeter-filter.wasm`, for the role `filter`.
    Filter,
    /// `meshmeter-log.wasm`, for the roles `access_log` and `upstream_log`.
    Log,
    /// `libmeshmeter_filter.so`, for the role `filter` in Envoy's own process.
    Native,
    /// `test/meshmeter-trap.wasm`, as `Filter`, and a request with 50 headers or more ends its VM.
    Trap,
}

// === impl Module ===

impl Module {
    /// The module that has this role.
    pub fn of(role: Role) -> Self {
        match role {
            Role::Filter => Self::Filter,
            Role::AccessLog | Role::UpstreamLog => Self::Log,
        }
    }

    /// The file of the module.
    pub fn path(self) -> Result<PathBuf> {
        let name = match self {
            Self::Native => {
                let directory = match env::var_os(MESHMETER_MODULE_DIR) {
                    Some(directory) => PathBuf::from(directory),
                    None => target_dir()?.join("module"),
                };
                return existing(
                    directory.join("libmeshmeter_filter.so"),
                    "cargo xtask module",
                );
            }
            Self::Filter => "meshmeter-filter.wasm",
            Self::Log => "meshmeter-log.wasm",
            Self::Trap => "test/meshmeter-trap.wasm",
        };
        let directory = match env::var_os(MESHMETER_WASM_DIR) {
            Some(directory) => PathBuf::from(directory),
            None => target_dir()?.join("wasm"),
        };
        existing(directory.join(name), "cargo xtask wasm")
    }
}

/// The aggregator's binary: the one that `MESHMETER_BIN` names, else the one built beside this
/// executable.
pub fn meshmeter() -> Result<PathBuf> {
    if let Some(path) = env::var_os(MESHMETER_BIN) {
        return existing(path.into(), "cargo build -p aggregator --bin meshmeter");
    }
    existing(
        profile_dir()?.join("meshmeter"),
        "cargo build -p aggregator --bin meshmeter",
    )
}

/// The Envoy binary: `ENVOY_BIN`, else `envoy` on `PATH`, else the one that `cargo xtask envoy`
/// installed.
pub fn envoy() -> Result<PathBuf> {
    if let Some(path) = env::var_os(ENVOY_BIN) {
        return existing(path.into(), "cargo xtask envoy, with ENVOY_BIN unset,");
    }
    if let Some(path) = on_path("envoy") {
        return Ok(path);
    }
    existing(
        target_dir()?.join("envoy/bin/envoy"),
        "ENVOY_BIN and PATH name no Envoy; cargo xtask envoy",
    )
}

/// The oldest Envoy that is tested, beside the one of [`envoy`].
pub const OLD_ENVOY: &str = "1.36.4";

/// The oldest Envoy that loads the dynamic module and is tested.
pub const MODULE_ENVOY: &str = "1.38.3";

/// Envoy [`OLD_ENVOY`].
pub fn old_envoy() -> Result<PathBuf> {
    installed(OLD_ENVOY)
}

/// Envoy [`MODULE_ENVOY`].
pub fn module_envoy() -> Result<PathBuf> {
    installed(MODULE_ENVOY)
}

/// The Envoy of this version that `cargo xtask envoys` installed.
fn installed(version: &str) -> Result<PathBuf> {
    let folder = target_dir()?.join(format!("envoy/venv-{version}/lib"));
    // Under whichever version of Python installed it.
    let found = std::fs::read_dir(&folder).ok().and_then(|entries| {
        let binary = "site-packages/envoy/_bin/envoy";
        entries
            .filter_map(|entry| Some(entry.ok()?.path().join(binary)))
            .find(|path| path.is_file())
    });
    let expected = folder.join("python3/site-packages/envoy/_bin/envoy");
    existing(found.unwrap_or(expected), "cargo xtask envoys")
}

/// Prometheus: the one on `PATH`, else the one that `cargo xtask prometheus` fetched.
pub fn prometheus() -> Result<PathBuf> {
    if let Some(path) = on_path("prometheus") {
        return Ok(path);
    }
    existing(
        target_dir()?.join("prometheus/usr/bin/prometheus"),
        "PATH names no prometheus; cargo xtask prometheus",
    )
}

/// Checks and tests rules: as [`prometheus`], of the same package.
pub fn promtool() -> Result<PathBuf> {
    Ok(prometheus()?.with_file_name("promtool"))
}

/// A Python with botocore and cramjam, for independent references.
pub fn python() -> Result<PathBuf> {
    existing(
        target_dir()?.join("python/bin/python"),
        "cargo xtask python",
    )
}

/// The program `name` in one of the directories of `PATH`.
pub fn on_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}

/// The built `meshmeter-mesh`: the one that `MESHMETER_MESH_BIN` names, else the one built beside
/// this executable.
pub fn mesh() -> Result<PathBuf> {
    if let Some(path) = env::var_os(MESHMETER_MESH_BIN) {
        return existing(path.into(), "cargo build -p mesh --bin meshmeter-mesh");
    }
    existing(
        profile_dir()?.join("meshmeter-mesh"),
        "cargo build -p mesh --bin meshmeter-mesh",
    )
}

/// Cargo's directory of this executable's profile, such as `target/debug`.
fn profile_dir() -> Result<PathBuf> {
    let executable = env::current_exe().context("find the running executable")?;
    let directory = executable.parent().unwrap_or(Path::new("/"));
    let directory = match directory.file_name() {
        Some(name) if name == "deps" || name == "examples" => directory.parent(),
        _ => Some(directory),
    };
    Ok(directory
        .context("the running executable has no directory")?
        .to_path_buf())
}

fn target_dir() -> Result<PathBuf> {
    let profile = profile_dir()?;
    let parent = profile
        .parent()
        .context("the profile directory has no parent")?;
    Ok(parent.to_path_buf())
}

fn existing(path: PathBuf, built_by: &str) -> Result<PathBuf> {
    if !path.is_file() {
        bail!("{} is not there: {built_by} makes it", path.display());
    }
    Ok(path)
}
