//! Builds programs for the images: by cargo, linked statically with musl, as the same bytes in any
//! folder.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::contents::{Built, IMAGES, Program};
use crate::image::Platform;
use crate::paths::{self, Folders};
use crate::program;
use crate::sbom::{self, Packages};

/// A platform that images are for, and Rust's name of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    pub platform: Platform,
    pub triple: &'static str,
}

pub const TARGETS: [Target; 2] = [
    Target {
        platform: linux("amd64"),
        triple: "x86_64-unknown-linux-musl",
    },
    Target {
        platform: linux("arm64"),
        triple: "aarch64-unknown-linux-musl",
    },
];

/// Variables that reach the build: where things are, and how they are fetched and shown.
const LET_THROUGH: [&str; 8] = [
    "CARGO_HOME",
    "CARGO_TARGET_DIR",
    "CARGO_BUILD_JOBS",
    "CARGO_HTTP_",
    "CARGO_NET_",
    "CARGO_REGISTR",
    "CARGO_SOURCE_",
    "CARGO_TERM_",
];
/// Beginnings of variables that would change what is built.
const KEPT_OUT: [&str; 14] = [
    "CARGO_",
    "__CARGO",
    "RUSTC",
    "RUSTFLAGS",
    "CC",
    "CXX",
    "AR",
    "CFLAGS",
    "CPPFLAGS",
    "CPATH",
    "C_INCLUDE",
    "CRATE_CC",
    "HOST_C",
    "TARGET_",
];

const fn linux(architecture: &'static str) -> Platform {
    Platform {
        architecture,
        os: "linux",
    }
}

/// The programs of all images.
pub fn programs() -> impl Iterator<Item = Program> {
    IMAGES.iter().filter_map(|image| image.program)
}

/// Builds all programs for `target`, checks them, and returns them with the modules, which are
/// there already.
pub fn run(root: &Path, target: Target, folders: &Folders, epoch: u64) -> Result<Built> {
    let programs: Vec<_> = programs().collect();
    let mut built = programs_of(root, target, folders, epoch, &programs)?;
    for (file, _) in IMAGES.iter().flat_map(|image| image.modules) {
        // `cargo xtask wasm` always writes them here.
        let bytes = read(&root.join("target/wasm").join(file))?;
        folders.check(file, &bytes)?;
        built.insert(file, bytes);
    }
    Ok(built)
}

/// Builds `programs` for `target`, and checks them.
pub fn programs_of(
    root: &Path,
    target: Target,
    folders: &Folders,
    epoch: u64,
    programs: &[Program],
) -> Result<Built> {
    let mut cargo = cargo(root);
    cargo.args(["build", "--release", "--locked", "--bins"]);
    cargo.args(["--target", target.triple]);
    for program in programs {
        cargo.args(["--package", program.package]);
    }
    let status = variables(&mut cargo, root, target, folders, epoch)
        .status()
        .context("run cargo")?;
    ensure!(status.success(), "cargo build for {}", target.triple);
    let mut built = Built::new();
    let release = paths::target(root).join(target.triple).join("release");
    for program in programs {
        let bytes = read(&release.join(program.file))?;
        program::check(program.file, &bytes, target.platform.architecture)?;
        folders.check(program.file, &bytes)?;
        built.insert(program.file, bytes);
    }
    Ok(built)
}

/// Cargo in the workspace, without what is set for other builds.
fn cargo(root: &Path) -> Command {
    let mut cargo = without_others(Command::new("cargo"));
    cargo.current_dir(root);
    cargo
}

/// The command without variables by which builds come out otherwise.
pub(crate) fn without_others(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(changes_builds) {
            command.env_remove(&name);
        }
    }
    command
}

fn changes_builds(variable: &str) -> bool {
    let begins = |list: &[&str]| list.iter().any(|start| variable.starts_with(start));
    begins(&KEPT_OUT) && !begins(&LET_THROUGH)
}

/// Rust's own linker and zig's C compiler (`cargo xtask zig`): those of the machine are of many
/// versions, and few have one for another architecture.
fn variables<'a>(
    cargo: &'a mut Command,
    root: &Path,
    target: Target,
    folders: &Folders,
    epoch: u64,
) -> &'a mut Command {
    let name = target.triple.replace('-', "_");
    let zig = root.join("target/zig/bin");
    let (machine, _) = target.triple.split_once('-').unwrap_or_default();
    let linker = format!("CARGO_TARGET_{}_LINKER", name.to_uppercase());
    cargo
        .env("CARGO_INCREMENTAL", "0")
        .env("SOURCE_DATE_EPOCH", epoch.to_string())
        .env(linker, "rust-lld")
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            folders.flags("--remap-path-prefix").join("\x1f"),
        )
        .env(format!("CC_{name}"), zig.join(format!("{machine}-cc")))
        .env(format!("AR_{name}"), zig.join("ar"))
        .env(
            format!("CFLAGS_{name}"),
            folders.flags("-ffile-prefix-map").join(" "),
        )
}

/// What goes into images, with what each is built from.
#[derive(Debug)]
pub struct Ingredients {
    pub programs: Packages,
    pub modules: Packages,
    /// The certificates.
    pub roots: Packages,
}

/// Asks cargo what it builds for `target`.
pub fn ingredients(root: &Path, target: Target) -> Result<Ingredients> {
    let of = |triple: &str, packages: &[&str]| {
        let mut cargo = cargo(root);
        cargo.args(["tree", "--locked", "--charset=ascii", "--prefix=depth"]);
        cargo.args(["--edges=normal,no-proc-macro", "--format", sbom::FORMAT]);
        cargo.args(["--target", triple]);
        for package in packages {
            cargo.args(["--package", package]);
        }
        let output = cargo.output().context("run cargo tree")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "cargo tree: {errors}");
        Packages::parse(&String::from_utf8(output.stdout)?)
    };
    let programs: Vec<_> = programs().map(|program| program.package).collect();
    Ok(Ingredients {
        programs: of(target.triple, &programs)?,
        modules: of("wasm32-wasip1", &["filter"])?,
        roots: of(target.triple, &["webpki-root-certs"])?,
    })
}

/// The version of the compiler, and so of the standard library.
pub fn rust_version(root: &Path) -> Result<String> {
    let output = Command::new("rustc")
        .arg("--version")
        .current_dir(root)
        .output();
    let said = String::from_utf8(output.context("run rustc")?.stdout)?;
    let version = said.split(' ').nth(1);
    version.map(str::to_owned).context("rustc says no version")
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::changes_builds;

    /// What a developer or a CI job has set for its own builds does not reach that of an image;
    /// where cargo finds its things does.
    #[test]
    fn variables_that_change_builds_are_kept_out() {
        for variable in [
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_PROFILE_RELEASE_LTO",
            "CARGO_BUILD_RUSTFLAGS",
            "CARGO_INCREMENTAL",
            "CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_RUSTFLAGS",
            "RUSTC_WRAPPER",
            "RUSTC_BOOTSTRAP",
            "CFLAGS_aarch64_unknown_linux_musl",
            "TARGET_CC",
            "CC",
        ] {
            assert!(changes_builds(variable), "{variable}");
        }
        for variable in [
            "CARGO_HOME",
            "CARGO_TARGET_DIR",
            "CARGO_HTTP_PROXY",
            "CARGO_NET_OFFLINE",
            "CARGO_REGISTRIES_MIRROR_INDEX",
            "RUSTUP_HOME",
            "RUSTUP_TOOLCHAIN",
            "PATH",
            "HOME",
            "HTTPS_PROXY",
        ] {
            assert!(!changes_builds(variable), "{variable}");
        }
    }
}
