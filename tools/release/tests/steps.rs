//! Steps as a workflow runs them: what cannot be released is refused by sentences, and the programs
//! of others get the arguments that they should.
#![expect(clippy::unwrap_used, reason = "in a test any surprise is a failure")]

use std::fs;
use std::path::Path;

use tempfile::TempDir;
use tools_release::{check, tree};

const CHANGELOG: &str = "# Changelog\n\n## Unreleased\n\n## 1.2.3 - 2026-12-01\n\n- A bell.\n";

/// A tree of two files, committed, with the tag `v1.2.3`.
fn committed(changelog: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let manifest = "[workspace.package]\nversion = \"1.2.3\"\n";
    fs::write(folder.path().join("Cargo.toml"), manifest).unwrap();
    fs::write(folder.path().join("CHANGELOG.md"), changelog).unwrap();
    git(folder.path(), &["init", "--quiet"]);
    commit(folder.path());
    git(folder.path(), &["tag", "v1.2.3"]);
    folder
}

fn commit(folder: &Path) {
    git(folder, &["add", "."]);
    let author = ["-c", "user.name=a", "-c", "user.email=a@example.com"];
    let commit = ["commit", "--quiet", "--allow-empty", "--message=a"];
    git(folder, &[&author[..], &commit].concat());
}

fn git(folder: &Path, arguments: &[&str]) {
    tree::git(folder, arguments).unwrap();
}

fn findings(folder: &TempDir, tag: &str) -> String {
    check::findings(folder.path(), tag).unwrap().join("\n")
}

/// Each reason not to release is a sentence of its own.
#[test]
fn what_cannot_be_released_is_refused_by_a_sentence() {
    let good = committed(CHANGELOG);
    assert_eq!(findings(&good, "v1.2.3"), "");
    for tag in ["v1.2.4", "1.2.3"] {
        let said = findings(&good, tag);
        let expected = format!("the tag is {tag}, but Cargo.toml has the version 1.2.3");
        assert!(said.contains(&expected), "{said}");
    }
    for (changelog, expected) in [
        (
            "# Changelog\n",
            "CHANGELOG.md says nothing under \"## 1.2.3 - DATE\"",
        ),
        (
            "\n## 1.2.3 - 2026-12-01\n",
            "CHANGELOG.md says nothing under",
        ),
        (
            "\n## Unreleased\n- More.\n\n## 1.2.3 - 2026-12-01\n- A bell.\n",
            "an open section that is not empty",
        ),
    ] {
        let said = findings(&committed(changelog), "v1.2.3");
        assert!(said.contains(expected), "{said}");
    }
    fs::write(
        good.path().join("more.yaml"),
        concat!("image: x/mesh:", "1.2.2\n"),
    )
    .unwrap();
    let said = findings(&good, "v1.2.3");
    assert!(said.contains("not committed:\n?? more.yaml"), "{said}");
    assert!(
        said.contains("more.yaml:1: 1.2.2, but Cargo.toml: 1.2.3"),
        "{said}"
    );
    fs::remove_file(good.path().join("more.yaml")).unwrap();
    commit(good.path());
    let said = findings(&good, "v1.2.3");
    assert!(said.contains("v1.2.3 is the tag of "), "{said}");
}
