//! What this project asks of its workflows, beside what actionlint does.
#![expect(clippy::unwrap_used, reason = "in a test any surprise is a failure")]

use std::fs;
use std::path::Path;

use serde_json::Value;

/// What a line of a workflow may run.
const OURS: [&str; 3] = [".ci/run", "scripts/", "cargo xtask "];

fn findings(text: &str) -> Vec<String> {
    let mut findings = actions(text);
    let workflow: Value = serde_saphyr::from_str(text).unwrap();
    let mut expect = |holds: bool, what: &str| {
        if !holds {
            findings.push(what.to_owned());
        }
    };
    let nothing = workflow["permissions"].as_object();
    expect(
        nothing.is_some_and(serde_json::Map::is_empty),
        "a workflow has permissions",
    );
    expect(workflow["concurrency"].is_object(), "no concurrency");
    for (name, job) in workflow["jobs"].as_object().unwrap() {
        let permissions = job["permissions"].is_object();
        expect(permissions, &format!("{name}: no permissions"));
        let is_call = job["uses"].is_string();
        let ends = job["timeout-minutes"].is_u64();
        expect(is_call || ends, &format!("{name}: no timeout-minutes"));
        for step in job["steps"].as_array().into_iter().flatten() {
            if let Some(run) = step["run"].as_str() {
                let is_ours = OURS.iter().any(|ours| run.starts_with(ours));
                let is_one = !run.contains(['\n', ';', '|', '&']);
                expect(is_ours && is_one, &format!("{name}: {run}"));
                // What GitHub puts into a shell's text may be a command of somebody else.
                let is_text = !run.contains("${{");
                expect(is_text, &format!("{name}: an expression in {run}"));
            }
        }
    }
    findings
}

/// Actions are pinned by commit, with the version for the reader.
fn actions(text: &str) -> Vec<String> {
    let lines = text.lines().filter_map(|line| line.split_once("uses: "));
    let loose = lines.filter(|(_, action)| {
        let pinned = action.split_once('@').is_some_and(|(_, version)| {
            let (commit, comment) = version.split_once(" # v").unwrap_or((version, ""));
            let is_digit = |c: char| c.is_ascii_hexdigit();
            commit.len() == 40 && commit.chars().all(is_digit) && !comment.is_empty()
        });
        !pinned && !action.starts_with("./")
    });
    loose
        .map(|(_, action)| format!("not pinned: {action}"))
        .collect()
}

/// Each step that runs something runs one command that can be run here, with no more rights than
/// its job needs.
#[test]
fn workflows_run_commands_of_ours() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.github/workflows");
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let found = findings(&fs::read_to_string(&path).unwrap());
        assert!(found.is_empty(), "{}: {found:?}", path.display());
        count += 1;
    }
    assert!(count >= 3, "{count} workflows");
}

/// Each rule can fail.
#[test]
fn what_breaks_a_rule_is_found() {
    let pin = "0123456789012345678901234567890123456789";
    let good = format!(
        "permissions: {{}}\nconcurrency: {{group: a}}\njobs:\n  a:\n    permissions: {{}}\n    \
         timeout-minutes: 1\n    steps:\n    - uses: a/b@{pin} # v1.0.0\n    - run: .ci/run\n"
    );
    assert!(findings(&good).is_empty(), "{:?}", findings(&good));
    for (from, to, finding) in [
        (" # v1.0.0", "", "not pinned: a/b@"),
        (pin, "v1", "not pinned: a/b@v1"),
        ("permissions: {}\nc", "c", "a workflow has permissions"),
        ("concurrency: {group: a}\n", "", "no concurrency"),
        ("    permissions: {}\n", "", "a: no permissions"),
        ("    timeout-minutes: 1\n", "", "a: no timeout-minutes"),
        (".ci/run", "make", "a: make"),
        (".ci/run", ".ci/run; make", "a: .ci/run; make"),
        (".ci/run", ".ci/run ${{ a }}", "a: an expression in"),
    ] {
        let bad = good.replacen(from, to, 1);
        let found = findings(&bad).join("\n");
        assert!(found.contains(finding), "{bad}\n{found}");
    }
}
