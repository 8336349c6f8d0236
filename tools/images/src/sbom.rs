//! What an image was built from: a software bill of materials as `CycloneDX` 1.6 in JSON, from what
//! `cargo tree` says of a build.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

/// Between the parts of a line of [`FORMAT`]: in no name, version or licence.
const BETWEEN: char = '|';
/// What `cargo tree` is to print of a package.
pub const FORMAT: &str = "{p}|{l}";

/// Packages, what each is built from, and which of them we asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packages {
    /// Licences by package.
    licences: BTreeMap<Package, String>,
    uses: BTreeMap<Package, BTreeSet<Package>>,
    roots: BTreeSet<Package>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Package {
    name: String,
    version: String,
    /// Of this workspace, and so in no registry.
    is_ours: bool,
}

// === impl Packages ===

impl Packages {
    /// Reads `cargo tree --prefix depth --format FORMAT`: each line is a depth and a package, and
    /// what a package is built from is printed once, where it comes first.
    pub fn parse(tree: &str) -> Result<Self> {
        let mut packages = Self::default();
        let mut above: Vec<Package> = Vec::new();
        for line in tree.lines().filter(|line| !line.is_empty()) {
            let read = line_of(line).with_context(|| format!("cargo tree: {line}"));
            let (depth, package, licence) = read?;
            ensure!(
                depth <= above.len(),
                "cargo tree leaves a level out: {line}"
            );
            above.truncate(depth);
            match above.last() {
                Some(user) => packages
                    .uses
                    .entry(user.clone())
                    .or_default()
                    .insert(package.clone()),
                None => packages.roots.insert(package.clone()),
            };
            packages.licences.insert(package.clone(), licence);
            above.push(package);
        }
        ensure!(!packages.roots.is_empty(), "cargo tree printed no package");
        Ok(packages)
    }

    /// What one of those that we asked for is built from, and nothing else.
    pub fn of(&self, name: &str) -> Result<Self> {
        let root = self.roots.iter().find(|root| root.name == name);
        let root = root.with_context(|| format!("cargo tree printed no package {name}"))?;
        let mut found = Self::default();
        found.roots.insert(root.clone());
        let mut open = vec![root.clone()];
        while let Some(package) = open.pop() {
            let licence = self.licences.get(&package).cloned().unwrap_or_default();
            if found.licences.insert(package.clone(), licence).is_none() {
                let used = self.uses.get(&package).cloned().unwrap_or_default();
                open.extend(used.iter().cloned());
                found.uses.insert(package, used);
            }
        }
        Ok(found)
    }

    /// Both.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.licences.extend(other.licences);
        for (package, used) in other.uses {
            self.uses.entry(package).or_default().extend(used);
        }
        self.roots.extend(other.roots);
        self
    }

    /// The document for an image of these; `rust` is the version of the standard library in it.
    pub fn document(&self, image: &str, version: &str, rust: &str) -> Result<String> {
        let standard = format!("pkg:generic/rust-std@{rust}");
        let mut components: Vec<Value> = self.licences.iter().map(component).collect();
        components.push(json!({
            "type": "library",
            "bom-ref": standard,
            "name": "rust-std",
            "version": rust,
            "description": "Rust's standard library, with the C library and unwinder that it brings",
            "licenses": [{"expression": "MIT OR Apache-2.0"}],
            "purl": standard,
        }));
        let name = format!("meshmeter/{image}");
        let itself = format!("{name}@{version}");
        let mut roots: Vec<_> = self.roots.iter().map(Package::purl).collect();
        roots.push(standard);
        let mut dependencies = vec![json!({"ref": itself, "dependsOn": roots})];
        for (package, used) in &self.uses {
            let used: Vec<_> = used.iter().map(Package::purl).collect();
            dependencies.push(json!({"ref": package.purl(), "dependsOn": used}));
        }
        let document = json!({
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "version": 1,
            "metadata": {
                "component": {"type": "container", "bom-ref": itself, "name": name, "version": version},
            },
            "components": components,
            "dependencies": dependencies,
        });
        Ok(serde_json::to_string_pretty(&document)? + "\n")
    }
}

// === impl Package ===

impl Package {
    /// Its name for tools that look up what is known of it.
    fn purl(&self) -> String {
        let kind = if self.is_ours { "generic" } else { "cargo" };
        format!("pkg:{kind}/{}@{}", self.name, self.version)
    }
}

fn component((package, licence): (&Package, &String)) -> Value {
    let mut component = json!({
        "type": "library",
        "bom-ref": package.purl(),
        "name": package.name,
        "version": package.version,
        "purl": package.purl(),
    });
    if !licence.is_empty() {
        // As crates wrote it before they could write an expression.
        let choices: Vec<_> = licence.split('/').map(str::trim).collect();
        let expression = choices.join(" OR ");
        component["licenses"] = json!([{"expression": expression}]);
    }
    component
}

/// Depth, package and licence of a line as `2tokio v1.0.0|MIT (*)` or `0mesh v0.1.0 (/src/mesh)|`.
fn line_of(line: &str) -> Option<(usize, Package, String)> {
    let line = line.trim_end_matches(" (*)");
    let digits = line.find(|character: char| !character.is_ascii_digit())?;
    let (depth, rest) = line.split_at(digits);
    let (package, licence) = rest.rsplit_once(BETWEEN)?;
    let mut words = package.splitn(3, ' ');
    let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
    let package = Package {
        name: name.to_owned(),
        version: version.to_owned(),
        // A folder is named after what is in one.
        is_ours: words.next().is_some_and(|origin| origin.starts_with("(/")),
    };
    Some((depth.parse().ok()?, package, licence.to_owned()))
}

#[cfg(test)]
mod tests;
