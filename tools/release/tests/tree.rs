//! This tree, as a release would find it.
#![expect(clippy::unwrap_used, reason = "in a test any surprise is a failure")]

use std::path::{Path, PathBuf};

use tools_release::version;

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().unwrap()
}

/// Whatever names a version of ours names the workspace's.
#[test]
fn the_version_is_one() {
    let findings = version::disagreements(&root()).unwrap();
    assert!(
        findings.is_empty(),
        "`cargo xtask release version X.Y.Z` writes it everywhere:\n{}",
        findings.join("\n")
    );
    let here = version::of_workspace(&root()).unwrap();
    assert_eq!(here.to_string(), env!("CARGO_PKG_VERSION"));
}
