//! Finds circles: modules of one crate that use each other, directly or through others, and crates
//! that do (Cargo lets development dependencies close one). A module and what is in it are one
//! thing to all others, and may use each other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

type Graph = BTreeMap<String, BTreeSet<String>>;

/// Circles among crates, given as (path, text) of their manifests.
pub(super) fn of_crates(manifests: &[(String, String)]) -> Vec<String> {
    let names = manifests.iter().filter_map(|(_, text)| package(text));
    let names: BTreeSet<&str> = names.collect();
    let graph = manifests.iter().filter_map(|(_, text)| {
        let keys = text.lines().filter_map(|line| {
            let dependency = ["[dependencies.", "[dev-dependencies."]
                .iter()
                .find_map(|table| line.strip_prefix(table));
            dependency.unwrap_or(line).split(['.', ' ', ']']).next()
        });
        let used = keys.filter(|key| names.contains(key)).map(str::to_owned);
        Some((package(text)?.to_owned(), used.collect()))
    });
    circles(&graph.collect())
}

fn package(manifest: &str) -> Option<&str> {
    let (_, package) = manifest.split_once("[package]\nname = \"")?;
    package.split('"').next()
}

/// Circles among modules, given as (path, text) of Rust files. Tests are left out: they use what
/// they test.
pub(super) fn of_modules(files: &[(String, String)]) -> Vec<String> {
    let modules: BTreeSet<&str> = files.iter().map(|(file, _)| module(file)).collect();
    let mut graph = Graph::new();
    for (file, text) in files {
        let Some((root, user)) = place(module(file), &modules) else {
            continue;
        };
        for used in used(&user, text) {
            // Where the two part: what holds the one and what holds the other are beside each other
            // there.
            let shared = user.iter().zip(&used).take_while(|(a, b)| a == b).count();
            let node = |path: &[&str]| Some(format!("{root}/{}", path.get(..=shared)?.join("/")));
            let (Some(from), Some(to)) = (node(&user), node(&used)) else {
                continue; // The one holds the other.
            };
            if modules.contains(to.as_str()) {
                graph.entry(from).or_default().insert(to);
            }
        }
    }
    circles(&graph)
}

fn module(file: &str) -> &str {
    file.strip_suffix(".rs").unwrap_or(file)
}

/// The folder of the `lib.rs` or `main.rs` whose module this is, and the module's path from there.
fn place<'a>(module: &'a str, modules: &BTreeSet<&str>) -> Option<(&'a str, Vec<&'a str>)> {
    let is_root = |folder: &str| {
        let mut names = ["lib", "main"].iter();
        names.any(|name| modules.contains(format!("{folder}/{name}").as_str()))
    };
    let mut folders = module.rmatch_indices('/').map(|(at, _)| &module[..at]);
    let root = folders.find(|folder| is_root(folder))?;
    let path: Vec<&str> = module[root.len() + 1..].split('/').collect();
    (!["lib", "main", "tests"].contains(path.last()?)).then_some((root, path))
}

/// The paths by `crate::` and `super::` in the text of the module `user`, from the root of the
/// crate.
fn used<'a>(user: &[&'a str], text: &'a str) -> Vec<Vec<&'a str>> {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text);
    let mut paths = Vec::new();
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            let line = code[..at].rsplit('\n').next().unwrap_or_default();
            let continued = line.ends_with(|c: char| c.is_alphanumeric() || "_:".contains(c));
            if line.contains("//") || continued {
                continue;
            }
            let mut rest = &code[at..];
            let mut from = user;
            while let Some(path) = rest.strip_prefix("super::") {
                (rest, from) = (path, from.split_last().map_or(from, |(_, above)| above));
            }
            if let Some(path) = rest.strip_prefix("crate::") {
                (rest, from) = (path, &[]);
            }
            take_tree(rest, from, &mut paths);
        }
    }
    paths
}

/// Takes a path, or a tree of them as `use` has it, from the start of `text`; returns what follows.
fn take_tree<'a>(text: &'a str, from: &[&'a str], paths: &mut Vec<Vec<&'a str>>) -> &'a str {
    if let Some(mut rest) = text.trim_start().strip_prefix('{') {
        loop {
            rest = take_tree(rest, from, paths).trim_start_matches(|c| c != ',' && c != '}');
            match rest.strip_prefix(',') {
                Some(next) => rest = next,
                None => return rest.strip_prefix('}').unwrap_or(rest),
            }
        }
    }
    let text = text.trim_start();
    let is_end = |c: char| !c.is_alphanumeric() && c != '_';
    let (name, rest) = text.split_at(text.find(is_end).unwrap_or(text.len()));
    let path = [from, &[name]].concat();
    if let Some(rest) = rest.strip_prefix("::") {
        return take_tree(rest, &path, paths);
    }
    paths.push(path);
    rest
}

/// For each node in a circle, one that holds it.
fn circles(graph: &Graph) -> Vec<String> {
    let mut reported = BTreeSet::new();
    let mut found = Vec::new();
    for node in graph.keys() {
        if let Some(circle) = circle(graph, node).filter(|_| !reported.contains(node.as_str())) {
            reported.extend(circle.iter().copied());
            found.push(format!("a circle: {}", circle.join(" -> ")));
        }
    }
    found
}

/// The shortest way from a node back to itself.
fn circle<'a>(graph: &'a Graph, node: &'a str) -> Option<Vec<&'a str>> {
    let mut ways = VecDeque::from([vec![node]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        for used in graph.get(*way.last()?).into_iter().flatten() {
            let longer = [way.as_slice(), &[used]].concat();
            if used == node {
                return Some(longer);
            }
            if seen.insert(used) {
                ways.push_back(longer);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests;
