//! The version: `workspace.package.version` of `Cargo.toml` is the one, and everything else that
//! names a version of ours repeats it.

use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context as _, Error, Result, bail};

use crate::tree;

/// Whose version counts.
const SOURCE: &str = "Cargo.toml";
const CHART: &str = "deploy/chart/Chart.yaml";
/// What stands before a version of ours, wherever it is: names of images and of files, and what the
/// injector notes on a pod.
const BEFORE: [&str; 10] = [
    "/aggregator:",
    "/mesh:",
    "/filter:",
    "/$image:",
    "/…:",
    "meshmeter-",
    "aggregator-",
    "mesh-",
    "filter-",
    "meshmeter.io/injected: \"",
];
/// Files that speak of other versions, by what is in their path: what was, and pods of a version
/// that their test makes up.
const OF_OTHERS: [&str; 3] = ["CHANGELOG.md", "upgrade", "mesh/injector/tests/pods/"];
/// The version of packages that have none.
const NONE: &str = "0.0.0";

/// Three numbers, and `-alpha.N`, `-beta.N` or `-rc.N` before a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(String);

/// The workspace's version.
pub fn of_workspace(root: &Path) -> Result<Version> {
    let text = fs::read_to_string(root.join(SOURCE)).context(SOURCE)?;
    let places = source(&text);
    let place = places.first();
    let place = place.with_context(|| format!("{SOURCE}: no workspace.package.version"))?;
    text[place.clone()].parse()
}

/// Each place that names another version than the workspace's, with its line.
pub fn disagreements(root: &Path) -> Result<Vec<String>> {
    let expected = of_workspace(root)?;
    let mut findings = Vec::new();
    for (file, text) in tree::texts(root)? {
        for place in places(&file, &text) {
            let found = &text[place.clone()];
            if found != expected.0 {
                let line = text[..place.start].lines().count();
                findings.push(format!("{file}:{line}: {found}, but {SOURCE}: {expected}"));
            }
        }
    }
    Ok(findings)
}

/// Writes `version` into every place; returns the files that changed.
pub fn set(root: &Path, version: &Version) -> Result<Vec<String>> {
    let mut changed = Vec::new();
    for (file, text) in tree::texts(root)? {
        let mut new = text.clone();
        for place in places(&file, &text).into_iter().rev() {
            new.replace_range(place, &version.0);
        }
        if new != text {
            fs::write(root.join(&file), new).with_context(|| file.clone())?;
            changed.push(file);
        }
    }
    Ok(changed)
}

/// Where a file names a version of ours, in order.
fn places(file: &str, text: &str) -> Vec<Range<usize>> {
    if OF_OTHERS.iter().any(|path| file.contains(path)) {
        return Vec::new();
    }
    let mut places = named(text);
    if file == SOURCE {
        places.extend(source(text));
    } else if file == CHART {
        places.extend(after(text, "\nversion: "));
        places.extend(after(text, "\nappVersion: "));
    } else if file.ends_with("Cargo.lock") {
        places.extend(locked(text));
    }
    places.sort_by_key(|place| place.start);
    places
}

fn source(text: &str) -> Vec<Range<usize>> {
    let Some(table) = text.find("[workspace.package]") else {
        return Vec::new();
    };
    let version = after(&text[table..], "\nversion = \"").into_iter().next();
    let place = version.map(|place| place.start + table..place.end + table);
    place.into_iter().collect()
}

fn named(text: &str) -> Vec<Range<usize>> {
    let places = BEFORE.iter().flat_map(|before| after(text, before));
    let mut places: Vec<_> = places.collect();
    places.sort_by_key(|place| place.start);
    // One of them may end as another does.
    places.dedup();
    places
}

/// Packages without a source are those of the tree.
fn locked(text: &str) -> Vec<Range<usize>> {
    let versions = after(text, "\nversion = \"").into_iter();
    let ours = versions.filter(|place| {
        let mut next = text[place.end..].lines().skip(1);
        let has_source = next.next().is_some_and(|line| line.starts_with("source"));
        !has_source && &text[place.clone()] != NONE
    });
    ours.collect()
}

fn after(text: &str, before: &str) -> Vec<Range<usize>> {
    let found = text.match_indices(before);
    let places = found.filter_map(|(at, _)| {
        let start = at + before.len();
        let length = length(&text[start..])?;
        Some(start..start + length)
    });
    places.collect()
}

/// Bytes of the version that the text begins with.
fn length(text: &str) -> Option<usize> {
    let mut rest = text;
    for part in 0..3 {
        if part > 0 {
            rest = rest.strip_prefix('.')?;
        }
        rest = number(rest)?;
    }
    let before = ["-alpha.", "-beta.", "-rc."];
    let before = before.iter().find_map(|kind| rest.strip_prefix(kind));
    rest = before.and_then(number).unwrap_or(rest);
    Some(text.len() - rest.len())
}

/// What is behind a number.
fn number(text: &str) -> Option<&str> {
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
    (rest.len() < text.len()).then_some(rest)
}

// === impl Version ===

impl Version {
    /// The tag of its commit.
    #[must_use]
    pub fn tag(&self) -> String {
        format!("v{}", self.0)
    }

    /// Whether it is one that only some try.
    #[must_use]
    pub fn is_before_release(&self) -> bool {
        self.0.contains('-')
    }
}

impl FromStr for Version {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if length(text) != Some(text.len()) {
            bail!("{text:?} is no version: three numbers as 1.2.3, or 1.2.3-rc.1 before a release");
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests;
