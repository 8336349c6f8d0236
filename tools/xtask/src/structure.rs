//! Checks what no compiler sees: that documents name files that exist, that crates are named after
//! their folders and take the workspace's lints, that files stay short and text is wrapped in one
//! way, that neither crates nor modules use each other in a circle, and that no path of one machine
//! gets into the tree.

mod circles;
mod wrapping;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Lines of a Rust file, tests in a file of their own and generated code excepted.
const FILE_LINES_MAX: usize = 500;
/// Crates that are not named after their folder.
const NAMED_OTHERWISE: [(&str, &str); 1] = [("tools/xtask", "xtask")];
/// What makes a word in a document the name of a file.
const FILE_ENDINGS: [&str; 8] = [
    ".rs", ".md", ".toml", ".proto", ".sh", ".yaml", ".json", ".lock",
];
/// First folders that only a machine has, never this tree.
const MACHINE_FOLDERS: [&str; 4] = ["work", "root", "home", "Users"];

/// Fails with every finding if there is one.
pub(crate) fn run(root: &Path) -> Result<()> {
    let files = Files::of(root)?;
    let mut findings = Vec::new();
    let (mut manifests, mut sources) = (Vec::new(), Vec::new());
    for file in &files.paths {
        // Not text: nothing to read here.
        let Ok(text) = fs::read_to_string(root.join(file)) else {
            continue;
        };
        findings.extend(
            machine_path(&text).map(|line| format!("{file}:{line}: names a path of one machine")),
        );
        let path = Path::new(file);
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("toml") if path.ends_with("Cargo.toml") => {
                findings.extend(manifest(file, &text));
                manifests.push((file.clone(), text));
            }
            Some("rs") => {
                findings.extend(length(file, &text));
                if !file.contains("/gen/") {
                    findings.extend(wrapping::wide_comments(file, &text));
                }
                sources.push((file.clone(), text));
            }
            Some("md") => {
                findings.extend(lost_paths(&files, file, &text));
                findings.extend(wrapping::wrapped_paragraphs(file, &text));
            }
            _ => {}
        }
    }
    findings.extend(circles::of_crates(&manifests));
    findings.extend(circles::of_modules(&sources));
    if findings.is_empty() {
        println!("{} files are in order", files.paths.len());
        return Ok(());
    }
    bail!("the tree is out of order:\n  {}", findings.join("\n  "))
}

/// What git tracks or would add.
struct Files {
    /// Relative to the workspace, with `/`.
    paths: BTreeSet<String>,
    /// Every folder that holds one of them.
    folders: BTreeSet<String>,
}

// === impl Files ===

impl Files {
    fn of(root: &Path) -> Result<Self> {
        let output = Command::new("git")
            .args([
                "ls-files",
                "-z",
                "--cached",
                "--others",
                "--exclude-standard",
            ])
            .current_dir(root)
            .output()
            .context("run git ls-files")?;
        if !output.status.success() {
            bail!(
                "git ls-files: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        let listed = String::from_utf8(output.stdout).context("file names are UTF-8")?;
        let exist = |file: &&str| !file.is_empty() && root.join(file).is_file();
        Ok(Self::new(listed.split('\0').filter(exist)))
    }

    fn new<'a>(files: impl Iterator<Item = &'a str>) -> Self {
        let paths: BTreeSet<_> = files.map(str::to_owned).collect();
        let folders = paths
            .iter()
            .flat_map(|file| Path::new(file).ancestors().skip(1))
            .filter_map(|folder| Some(folder.to_str()?.to_owned()))
            .collect();
        Self { paths, folders }
    }

    fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        self.paths.contains(path) || self.folders.contains(path)
    }
}

/// The first line that names a folder outside the tree which other machines do not have.
fn machine_path(text: &str) -> Option<usize> {
    let names = |line: &str| {
        MACHINE_FOLDERS.iter().any(|folder| {
            let path = format!("/{folder}/");
            line.match_indices(&path).any(|(at, _)| {
                let before = line[..at].chars().next_back();
                !before.is_some_and(|c| c.is_alphanumeric() || "_.-$}*".contains(c))
            })
        })
    };
    text.lines().position(names).map(|line| line + 1)
}

/// A crate is named after its folder and takes the workspace's lints.
fn manifest(file: &str, text: &str) -> Vec<String> {
    let Some((_, package)) = text.split_once("[package]") else {
        return Vec::new();
    };
    let folder = file.trim_end_matches("Cargo.toml").trim_end_matches('/');
    let expected = NAMED_OTHERWISE
        .iter()
        .find(|(other, _)| *other == folder)
        .map_or_else(|| folder.replace('/', "-"), |(_, name)| (*name).to_owned());
    let name = package
        .lines()
        .find_map(|line| line.strip_prefix("name = "))
        .unwrap_or_default()
        .trim_matches('"');
    let mut findings = Vec::new();
    if name != expected {
        findings.push(format!(
            "{file}: the crate is named {name:?}, its folder says {expected:?}"
        ));
    }
    if !text.contains("[lints]\nworkspace = true") {
        findings.push(format!("{file}: does not take the lints of the workspace"));
    }
    findings
}

fn length(file: &str, text: &str) -> Option<String> {
    let lines = text.lines().count();
    let exempt = file.ends_with("/tests.rs") || file.contains("/gen/");
    (lines > FILE_LINES_MAX && !exempt)
        .then(|| format!("{file}: {lines} lines, more than {FILE_LINES_MAX}"))
}

/// Links and code words of a document that should name a file and do not.
fn lost_paths(files: &Files, document: &str, text: &str) -> Vec<String> {
    let folder = Path::new(document).parent().unwrap_or(Path::new(""));
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for path in links(line).chain(code_words(line)) {
            let beside = normal(&folder.join(path));
            if !files.has(path) && !beside.is_some_and(|beside| files.has(&beside)) {
                findings.push(format!("{document}:{}: {path} does not exist", index + 1));
            }
        }
    }
    findings
}

/// Targets of `[text](target)` within the tree, without their anchors.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .filter_map(|(target, _)| target.split('#').next())
        .filter(|target| !target.is_empty() && !target.contains(':'))
}

/// Words in backticks that can only be files or folders of the tree.
fn code_words(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2).filter(|word| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
        let names_file = FILE_ENDINGS.iter().any(|ending| word.ends_with(ending));
        let names_folder = word.ends_with('/');
        word.chars().all(plain)
            && word.contains('/')
            && !word.starts_with('/')
            // Built, not tracked.
            && !word.starts_with("target/")
            && (names_file || names_folder)
    })
}

/// The path without `.` and `..`; nothing if it leaves the tree.
fn normal(path: &Path) -> Option<String> {
    let mut parts = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.push(part),
            Component::CurDir => {}
            Component::ParentDir => {
                if !parts.pop() {
                    return None;
                }
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    parts.to_str().map(str::to_owned)
}

#[cfg(test)]
mod tests;
