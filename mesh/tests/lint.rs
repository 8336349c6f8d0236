//! `control-plane lint` as a program: what it prints, and how it ends.
#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;

const MESH: &str = "apiVersion: appmesh.k8s.aws/v1beta2\nkind: Mesh\nmetadata: {name: m}\n";

fn lint(manifest: &str, name: &str, options: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(name), manifest).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshmeter-mesh"));
    command.args(["control-plane", "lint"]).args(options);
    command.arg(folder.path()).output().unwrap()
}

/// (manifest, name of the file, options, exit code, a part of what is printed or logged).
#[test]
fn ends_by_what_it_found() {
    let named = format!("{MESH}spec:\n  awsName: ${{NAME}}\n");
    let owned = format!("{MESH}spec: {{meshOwner: '1'}}\n");
    let cases: [(&str, &str, &[&str], i32, &str); 8] = [
        (MESH, "a.yaml", &[], 0, "Mesh m: served"),
        (
            &owned,
            "a.yaml",
            &[],
            1,
            "because spec.meshOwner is not served: ",
        ),
        (&named, "a.yaml", &[], 1, "${NAME} has no value"),
        (
            &named,
            "a.yaml",
            &["--set", "NAME=jazz"],
            0,
            "Mesh m: served",
        ),
        (
            &named,
            "a.yaml.template",
            &["--tolerate-placeholders"],
            0,
            "Mesh m: served",
        ),
        (&named, "a.yaml.template", &[], 0, "0 resources"),
        ("{", "a.yaml", &[], 2, "a.yaml: cannot be read: "),
        (MESH, "a.yaml", &["/nowhere-at-all"], 2, "/nowhere-at-all: "),
    ];
    for (manifest, name, options, code, part) in cases {
        let output = lint(manifest, name, options);
        let said = [&output.stdout[..], &output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{name} {options:?}: {said}"
        );
        assert!(said.contains(part), "{name} {options:?}: {said}");
    }
}

#[test]
fn says_the_same_as_json() {
    let output = lint(
        &format!("{MESH}spec: {{meshOwner: '1'}}\n"),
        "a.yaml",
        &["--json"],
    );
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mesh = &report["resources"][0];
    assert_eq!(mesh["outcome"], "refused");
    assert_eq!(mesh["fields"][0]["path"], "spec.meshOwner");
    assert_eq!(mesh["fields"][0]["effect"], "refused");
    assert_eq!(
        mesh["fields"][0]["why"],
        mesh["refused"][0]
            .as_str()
            .and_then(|why| why.strip_prefix("spec.meshOwner is not served: "))
            .map_or(Value::Null, Value::from)
    );
}

/// An ARN of ACM stands for a secret by the map, and is refused without it, or with a map that is
/// none.
#[test]
fn takes_a_map_of_acm() {
    let arn = "arn:aws:acm:us-west-2:111122223333:certificate/1";
    let node = format!(
        "{MESH}spec: {{namespaceSelector: {{}}}}\n---\napiVersion: appmesh.k8s.aws/v1beta2\nkind: VirtualNode\n\
         metadata: {{name: jazz}}\nspec: {{listeners: [{{portMapping: {{port: 1, protocol: http}}, \
         tls: {{mode: STRICT, certificate: {{acm: {{certificateARN: '{arn}'}}}}}}}}]}}\n"
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("acm");
    let option = format!("--acm-map={}", file.display());
    let refused = format!("{arn} has no secret");
    for (map, options, code, part) in [
        ("", &[][..], 1, &*refused),
        ("{}", &[&*option], 1, &*refused),
        (&*format!("{arn}: jazz-tls"), &[&*option], 0, "mapped"),
        (
            &*format!("{arn}: Jazz"),
            &[&*option],
            2,
            "\"Jazz\" is not the name of a secret",
        ),
    ] {
        fs::write(&file, map).unwrap();
        let output = lint(&node, "a.yaml", options);
        let said = [&output.stdout[..], &output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert_eq!(output.status.code(), Some(code), "{map}: {said}");
        assert!(said.contains(part), "{map}: {said}");
    }
}
