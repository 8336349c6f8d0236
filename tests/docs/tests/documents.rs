//! What documents name is there: files, anchors, flags, metrics; and what they show can be read.
#![expect(clippy::unwrap_used, reason = "a test helper may panic")]
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tests_docs::markdown;
use tests_docs::programs::Program;

/// What the names of metrics begin with, where a sentence says so.
const PREFIXES: [&str; 3] = [
    "meshmeter_mesh_injector",
    "meshmeter_mesh_xds_proxy",
    "meshmeter_mesh_control_plane",
];
/// The names of Envoy's clusters look like metrics, and so does that of the dynamic module.
const NO_METRICS: [&str; 3] = ["meshmeter_aggregator", "meshmeter_xds", "meshmeter_filter"];

fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .canonicalize()
        .unwrap()
}

/// Every document of the tree, its path from the root and its text.
fn documents() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for folder in ["", "docs", "docs/decisions", "deploy"] {
        walk(
            &root().join(folder),
            !folder.is_empty() && folder != "docs/decisions",
            &mut found,
        );
    }
    found.sort();
    found.dedup();
    found.retain(|file| file.extension().is_some_and(|ending| ending == "md"));
    let named = found.into_iter().map(|file| {
        let text = fs::read_to_string(&file).unwrap();
        (
            file.strip_prefix(root()).unwrap().display().to_string(),
            text,
        )
    });
    named.collect()
}

fn walk(folder: &Path, below: bool, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_file() {
            found.push(path);
        } else if below {
            walk(&path, true, found);
        }
    }
}

fn report(findings: &[String]) {
    assert!(
        findings.is_empty(),
        "{} findings:\n{}",
        findings.len(),
        findings.join("\n")
    );
}

/// A link's file is there, and its anchor is a heading of it.
#[test]
fn links_and_anchors_resolve() {
    let mut findings = Vec::new();
    for (document, text) in documents() {
        for (line, target) in markdown::links(&text) {
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let folder = root().join(&document).parent().unwrap().to_path_buf();
            let file = match file {
                "" => root().join(&document),
                _ => folder.join(file),
            };
            if !file.exists() {
                findings.push(format!("{document}:{line}: {target} does not exist"));
            } else if !anchor.is_empty() {
                let text = fs::read_to_string(&file).unwrap();
                if !markdown::anchors(&text).iter().any(|known| known == anchor) {
                    findings.push(format!("{document}:{line}: {target} names no heading"));
                }
            }
        }
    }
    report(&findings);
}

/// The files and folders that the map of the code names are there, and so is each function named
/// in parentheses behind its file.
#[test]
fn the_map_of_the_code_is_true() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut findings = Vec::new();
    let mut files = 0;
    for line in text.lines().filter(|line| line.starts_with('|')) {
        let mut source = String::new();
        let mut before = "";
        for (nth, part) in line.split('`').enumerate() {
            if nth % 2 == 0 {
                before = part;
            } else if part.contains('/') && !part.starts_with('/') {
                files += 1;
                source = fs::read_to_string(root().join(part)).unwrap_or_default();
                if !root().join(part).exists() {
                    findings.push(format!("{part} does not exist"));
                }
            } else if (before == " (" || before == ", ")
                && !source.is_empty()
                && !source.contains(&format!("fn {part}("))
                && !source.contains(&format!("fn {part}<"))
            {
                findings.push(format!("no function {part}: {line}"));
            }
        }
    }
    assert!(files > 50, "{files} files found");
    report(&findings);
}

/// Fenced YAML and JSON is YAML and JSON.
#[test]
fn fenced_examples_parse() {
    let mut findings = Vec::new();
    for (document, text) in documents() {
        for block in markdown::blocks(&text) {
            let error = match block.language.as_str() {
                "yaml" => serde_saphyr::from_multiple::<Value>(&block.text)
                    .err()
                    .map(|error| error.to_string()),
                "json" => serde_json::from_str::<Value>(&block.text)
                    .err()
                    .map(|error| error.to_string()),
                _ => None,
            };
            findings.extend(error.map(|error| format!("{document}:{}: {error}", block.line)));
        }
    }
    report(&findings);
}

/// A flag behind `meshmeter` or `meshmeter-mesh`, in a command or in a sentence, is one of theirs.
#[test]
fn flags_are_known() {
    let programs = [Program::Aggregator, Program::Mesh];
    let commands = programs
        .iter()
        .flat_map(|program| program.commands().unwrap());
    let known: BTreeSet<_> = commands
        .flat_map(|(_, help)| help.flags)
        .map(|flag| flag.name)
        .collect();
    let mut findings = Vec::new();
    for (document, text) in documents() {
        if !document.starts_with("docs/") || document.contains("decisions") {
            continue;
        }
        // Commands of ours over several lines.
        let joined = text.replace("\\\n", " ");
        for line in joined.lines().filter(|line| of_ours(line)) {
            for flag in flags(line) {
                if !known.contains(flag) {
                    findings.push(format!("{document}: {flag} is no flag: {}", line.trim()));
                }
            }
        }
    }
    report(&findings);
}

/// Whether a line runs one of the programs.
fn of_ours(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let first = words.next().unwrap_or_default();
    let second = words.next().unwrap_or_default();
    first == "meshmeter"
        || first == "meshmeter-mesh"
        || (first == "$" && second.starts_with("meshmeter"))
}

fn flags(line: &str) -> impl Iterator<Item = &str> {
    let words = line.split(|c: char| c.is_whitespace() || "`()[]\"',=|".contains(c));
    words.filter(|word| word.starts_with("--") && word.len() > 3)
}

/// A metric of ours that a document names is in METRICS.md.
#[test]
fn metrics_are_known() {
    let reference = fs::read_to_string(root().join("docs/METRICS.md")).unwrap();
    let known: BTreeSet<_> = markdown::rows(&reference)
        .into_iter()
        .map(|row| row[0].trim_matches('`').to_owned())
        .collect();
    let is_known = |name: &str| {
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|part| name.strip_suffix(part));
        known.contains(name) || family.is_some_and(|family| known.contains(family))
    };
    let mut findings = Vec::new();
    for (document, text) in documents() {
        if document == "CHANGELOG.md" || document.contains("decisions") {
            continue;
        }
        for (index, line) in text.lines().enumerate() {
            for name in metrics(line).filter(|name| !is_known(name)) {
                findings.push(format!("{document}:{}: {name} is no metric", index + 1));
            }
        }
    }
    report(&findings);
}

/// Words of a line that look like metrics of ours.
fn metrics(line: &str) -> impl Iterator<Item = &str> {
    let words = line.split(|c: char| !c.is_ascii_alphanumeric() && !"_…*".contains(c));
    let whole = |word: &&str| !word.ends_with('_') && !word.contains(['…', '*']);
    let metric = |word: &&str| {
        let of_cluster = NO_METRICS.iter().any(|cluster| word.starts_with(cluster));
        word.starts_with("meshmeter_") && !of_cluster && !PREFIXES.contains(word)
    };
    words.filter(whole).filter(metric)
}

/// A path of `kubectl apply -k` is there, and `-f` names a file.
#[test]
fn applied_paths_exist() {
    let mut findings = Vec::new();
    for (document, text) in documents() {
        for block in markdown::blocks(&text) {
            let words: Vec<_> = block.text.split_whitespace().collect();
            for pair in words.windows(2) {
                let local = !pair[1].contains("://")
                    && !pair[1].starts_with(['-', '$'])
                    && pair[1].contains('/');
                if ["-k", "-f"].contains(&pair[0]) && local && !root().join(pair[1]).exists() {
                    findings.push(format!(
                        "{document}:{}: {} does not exist",
                        block.line, pair[1]
                    ));
                }
            }
        }
    }
    report(&findings);
}

/// Every alert has a section in the runbook, and every section an alert.
#[test]
fn alerts_have_a_runbook() {
    let runbook = fs::read_to_string(root().join("docs/OPERATIONS.md")).unwrap();
    let mut alerts = BTreeSet::new();
    let mut files = Vec::new();
    walk(&root().join("deploy/chart/alerts"), true, &mut files);
    for file in files {
        let text = fs::read_to_string(file).unwrap_or_default();
        let names = text
            .lines()
            .filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix("alert: "));
        alerts.extend(names.map(|name| name.trim().to_owned()));
    }
    let sections: BTreeSet<_> = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("### Meshmeter"))
        .map(|rest| format!("Meshmeter{rest}"))
        .collect();
    // Rules that are tested name them too: only real ones count.
    assert!(
        alerts.is_empty() || alerts == sections,
        "alerts {alerts:?}\nsections {sections:?}"
    );
}
