//! `cargo xtask zig`: what builds programs for images on any machine, without root. Rust brings
//! standard library, C library and linker for musl; for the C in ring there is zig's C compiler,
//! one program for all architectures.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::host;

/// Python's package of zig. The version is part of what is built.
const PACKAGE: &str = "ziglang==0.17.1";
/// Where it goes, relative to the workspace.
const FOLDER: &str = "target/zig";
const MACHINES: [&str; 2] = ["x86_64", "aarch64"];

/// Commands of zig under names of their own. Callers name the target as LLVM does, which zig
/// refuses. What zig keeps of its runs stays out of the user's home, unless it is said where.
const WRAPPER: &str = r#"#!/bin/sh
here=$(cd -- "$(dirname -- "$0")" && pwd)
export ZIG_GLOBAL_CACHE_DIR="${ZIG_GLOBAL_CACHE_DIR:-$here/../cache}"
for argument; do
  shift
  case $argument in --target=*) ;; *) set -- "$@" "$argument" ;; esac
done
exec "$here/../zig" "#;

/// Makes sure that all of it is there.
pub(crate) fn ensure(root: &Path) -> Result<()> {
    for machine in MACHINES {
        host::ensure_target(&format!("{machine}-unknown-linux-musl"))?;
    }
    let folder = root.join(FOLDER);
    let compiler = |machine: &str| folder.join(format!("bin/{machine}-cc"));
    let works = |machine: &&str| host::succeeds(Command::new(compiler(machine)).arg("--version"));
    if !MACHINES.iter().all(works) {
        install(&folder).with_context(|| format!("get {PACKAGE} from PyPI"))?;
    }
    for machine in MACHINES {
        ensure!(
            works(&machine),
            "{} does not run here",
            compiler(machine).display()
        );
    }
    println!("{FOLDER}/bin");
    Ok(())
}

fn install(folder: &Path) -> Result<()> {
    println!("installing {PACKAGE} into {}", folder.display());
    let venv = folder.join("venv");
    crate::envoy::create_venv(&venv)?;
    let mut pip = Command::new(venv.join("bin/python"));
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-compile",
        PACKAGE,
    ]);
    host::run(&mut pip)?;
    let zig = fs::read_dir(venv.join("lib"))?
        .filter_map(|entry| Some(entry.ok()?.path().join("site-packages/ziglang/zig")))
        .find(|file| file.is_file())
        .context("the package holds no zig")?;
    // Relative, so that a workspace may be moved.
    let link = folder.join("zig");
    if link.is_symlink() {
        fs::remove_file(&link)?;
    }
    symlink(zig.strip_prefix(folder)?, link)?;
    fs::create_dir_all(folder.join("bin"))?;
    wrap(&folder.join("bin/ar"), "ar")?;
    for machine in MACHINES {
        let arguments = format!("cc -target {machine}-linux-musl");
        wrap(&folder.join(format!("bin/{machine}-cc")), &arguments)?;
    }
    Ok(())
}

fn wrap(file: &Path, arguments: &str) -> Result<()> {
    fs::write(file, format!("{WRAPPER}{arguments} \"$@\"\n"))?;
    fs::set_permissions(file, fs::Permissions::from_mode(0o755))
        .with_context(|| file.display().to_string())
}
