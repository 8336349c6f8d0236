//! `convert` as a program: what it prints where, and how it ends.
#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use std::fs;
use std::process::{Command, Output};

const MESH: &str = "\
apiVersion: appmesh.k8s.aws/v1beta2
kind: Mesh
metadata: {name: m}
---
apiVersion: appmesh.k8s.aws/v1beta2
kind: VirtualNode
metadata: {name: jazz, namespace: prod}
spec: {listeners: [{portMapping: {port: 80, protocol: PROTOCOL}}], serviceDiscovery: {dns: {hostname: 'HOST'}}}
---
apiVersion: appmesh.k8s.aws/v1beta2
kind: VirtualService
metadata: {name: jazz, namespace: prod}
spec: {provider: {virtualNode: {virtualNodeRef: {name: jazz}}}}
";

fn convert(manifest: &str, options: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.yaml"), manifest).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshmeter-mesh"));
    command
        .args(["convert", "--to", "gateway-api"])
        .args(options);
    command.arg(folder.path()).output().unwrap()
}

/// (host, protocol, options, exit code, part of the output, part of standard error).
type Case<'a> = (&'a str, &'a str, &'a [&'a str], i32, &'a str, &'a str);

#[test]
fn ends_by_what_is_lost() {
    let cases: [Case<'_>; 7] = [
        (
            "jazz-v1",
            "http",
            &[],
            0,
            "kind: HTTPRoute",
            "1 objects printed; 0 findings",
        ),
        ("jazz-v1", "tcp", &[], 0, "kind: TCPRoute", "0 findings"),
        (
            "jazz-v1",
            "tcp",
            &["--channel", "standard"],
            1,
            "# What is not as it was:",
            "not converted: VirtualService prod/jazz: port 80 has no route",
        ),
        (
            "api.example.com",
            "http",
            &[],
            1,
            "#   not converted: ",
            "api.example.com is not the name of a Kubernetes Service",
        ),
        (
            "${HOST}",
            "http",
            &["--set", "HOST=jazz-v1"],
            0,
            "name: jazz-v1",
            "0 findings",
        ),
        (
            "${HOST}",
            "http",
            &["--tolerate-placeholders"],
            0,
            "name: host",
            "0 findings",
        ),
        (
            "jazz-v1",
            "http",
            &["/nowhere-at-all"],
            2,
            "",
            "/nowhere-at-all: ",
        ),
    ];
    for (host, protocol, options, code, printed, said) in cases {
        let manifest = MESH.replace("HOST", host).replace("PROTOCOL", protocol);
        let output = convert(&manifest, options);
        let [out, errors] =
            [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
        let what = format!("{host} {protocol} {options:?}: {out}{errors}");
        assert_eq!(output.status.code(), Some(code), "{what}");
        assert!(out.contains(printed), "{what}");
        assert!(errors.contains(said), "{what}");
    }
    let output = convert("{", &[]);
    assert_eq!(output.status.code(), Some(2));
}

/// Text of a manifest does not get out of the comments.
#[test]
fn comments_stay_comments() {
    let host = r"a\nkind: Evil\u2028x.example.com";
    let manifest = MESH
        .replace("'HOST'", &format!("\"{host}\""))
        .replace("PROTOCOL", "http");
    let output = convert(&manifest, &[]);
    let out = String::from_utf8_lossy(&output.stdout);
    let is_comment = |line: &str| line.starts_with('#');
    assert!(
        !out.lines()
            .any(|line| line.contains("Evil") && !is_comment(line)),
        "{out}"
    );
    assert_eq!(output.status.code(), Some(1), "{out}");
}
