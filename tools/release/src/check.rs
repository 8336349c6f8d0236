//! Whether what is checked out can be released.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::{changelog, tree, version};

/// Everything that stands in the way of releasing this commit as `tag`, a sentence each.
pub fn findings(root: &Path, tag: &str) -> Result<Vec<String>> {
    let version = version::of_workspace(root)?;
    let mut findings = Vec::new();
    if tag != version.tag() {
        findings.push(format!(
            "the tag is {tag}, but Cargo.toml has the version {version}, whose tag is {}",
            version.tag()
        ));
    }
    findings.extend(version::disagreements(root)?);
    let text = fs::read_to_string(root.join("CHANGELOG.md")).context("CHANGELOG.md")?;
    if changelog::section(&text, &version).is_none_or(str::is_empty) {
        findings.push(format!(
            "CHANGELOG.md says nothing under \"## {version} - DATE\": `cargo xtask release version \
             {version} --date DATE` writes it"
        ));
    }
    if !changelog::open(&text).is_empty() {
        findings.push("CHANGELOG.md has an open section that is not empty".to_owned());
    }
    let changes = tree::git(root, &["status", "--porcelain"])?;
    if !changes.is_empty() {
        findings.push(format!(
            "there are changes that are not committed:\n{changes}"
        ));
    }
    // Before it is set, a tag may be checked too.
    let commit = format!("refs/tags/{tag}^{{commit}}");
    if let Ok(tagged) = tree::git(root, &["rev-parse", "--verify", "--quiet", &commit]) {
        let head = tree::git(root, &["rev-parse", "HEAD"])?;
        if tagged != head {
            findings.push(format!(
                "{tag} is the tag of {tagged}, but {head} is checked out"
            ));
        }
    }
    Ok(findings)
}
