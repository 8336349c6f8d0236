//! `cargo xtask module`: builds the filter as a dynamic module and checks what it is linked to and
//! what it exports.
//!
//! It is built on the machine and against the C library that `cargo` has: an Envoy with an older C
//! library refuses it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, ensure};

/// The profile of Cargo, and the folder that it builds into.
const PROFILE: &str = "module";
const FILE: &str = "libmeshmeter_filter.so";
/// Largest module that is let through, in bytes. Its code is shared memory of all workers.
const SIZE_MAX: usize = 1024 * 1024;

pub(crate) fn run(root: &Path) -> Result<()> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .current_dir(root)
        .args(["build", "--quiet", "--package", "filter-module"])
        .args(["--profile", PROFILE])
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags(root)?.join("\x1f"))
        .status()
        .context("run cargo")?;
    ensure!(status.success(), "cargo build of the module failed");
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let file = target.join(PROFILE).join(FILE);
    let bytes = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
    check(&bytes)?;
    println!("target/{PROFILE}/{FILE}: {} bytes", bytes.len());
    Ok(())
}

/// No paths of this machine in panic messages.
fn rustflags(root: &Path) -> Result<Vec<String>> {
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".cargo")))
        .context("find the home of cargo")?;
    Ok(vec![
        format!("--remap-path-prefix={}=cargo", home.display()),
        format!("--remap-path-prefix={}=.", root.display()),
    ])
}

/// Refuses a module that is too large, or that Envoy would refuse.
fn check(bytes: &[u8]) -> Result<()> {
    ensure!(
        bytes.len() <= SIZE_MAX,
        "{} bytes, at most {SIZE_MAX}",
        bytes.len()
    );
    for hook in [
        "envoy_dynamic_module_on_program_init",
        "envoy_dynamic_module_on_http_filter_config_new",
        "envoy_dynamic_module_on_http_filter_config_scheduled",
        "envoy_dynamic_module_on_bootstrap_extension_shutdown",
    ] {
        let mut windows = bytes.windows(hook.len());
        ensure!(
            windows.any(|window| window == hook.as_bytes()),
            "the module has no {hook}"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is no module is refused by the hook that it lacks; what is too large by its size.
    #[test]
    fn what_envoy_would_refuse_is_refused() {
        let error = check(b"envoy_dynamic_module_on_program_init").unwrap_err();
        assert!(error.to_string().contains("config_new"), "{error}");
        let error = check(&vec![0; SIZE_MAX + 1]).unwrap_err();
        assert!(error.to_string().contains("at most"), "{error}");
    }
}
