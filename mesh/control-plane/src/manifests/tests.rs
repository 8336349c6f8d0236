use std::fmt::Write as _;

use serde_json::json;

use super::*;

fn named(manifest: &Manifest) -> Vec<String> {
    let name = |object: &Value| {
        let metadata = &object["metadata"];
        let namespace = metadata["namespace"].as_str().unwrap_or("-");
        let (kind, name) = (
            object["kind"].as_str().unwrap(),
            metadata["name"].as_str().unwrap(),
        );
        format!("{kind} {namespace}/{name}")
    };
    manifest.objects.iter().map(name).collect()
}

const NODE: &str = "{apiVersion: appmesh.k8s.aws/v1beta2, kind: VirtualNode, metadata: {name: ui}}";

/// As `kubectl apply` takes them: (text, objects, other kinds).
#[test]
fn manifests_are_taken_as_kubectl_takes_them() {
    let other = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}}";
    let ui = || vec!["VirtualNode default/ui".to_owned()];
    for (text, objects, others) in [
        (NODE.to_owned(), ui(), vec![]),
        // Empty documents, comments, separators.
        (format!("---\n# nothing\n---\n{NODE}\n---\n---\n"), ui(), vec![]),
        (String::new(), vec![], vec![]),
        ("# nothing\n".to_owned(), vec![], vec![]),
        // Lists, of anything and of one kind.
        (format!("{{apiVersion: v1, kind: List, items: [{NODE}, {other}]}}"), ui(), vec![("Deployment", 1)]),
        (
            format!("{{apiVersion: v1, kind: List, items: [{{apiVersion: v1, kind: List, items: [{NODE}]}}]}}"),
            ui(),
            vec![],
        ),
        (
            "{apiVersion: appmesh.k8s.aws/v1beta2, kind: VirtualNodeList, items: [{metadata: {name: ui}}]}".to_owned(),
            ui(),
            vec![],
        ),
        ("{apiVersion: v1, kind: List, items: }".to_owned(), vec![], vec![]),
        ("{apiVersion: v1, kind: List}".to_owned(), vec![], vec![]),
        // JSON.
        (
            json!({"apiVersion": "v1", "kind": "List", "items": [
                {"apiVersion": "appmesh.k8s.aws/v1beta2", "kind": "Mesh", "metadata": {"name": "m"}},
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "prod"}},
                {"apiVersion": "appmesh.k8s.aws/v1beta2", "kind": "VirtualNode", "metadata": {"name": "ui", "namespace": "prod"}},
            ]})
            .to_string(),
            vec!["Mesh -/m".to_owned(), "Namespace -/prod".to_owned(), "VirtualNode prod/ui".to_owned()],
            vec![],
        ),
        // What is nothing of ours is counted, what is no object too.
        (format!("{other}\n---\n{other}\n---\njust text\n---\n[1]\n"), vec![], vec![("", 2), ("Deployment", 2)]),
    ] {
        let manifest = Manifest::read(&text).unwrap();
        assert_eq!(named(&manifest), objects, "{text}");
        let counted: Vec<_> = manifest.others.iter().map(|(kind, count)| (kind.as_str(), *count)).collect();
        assert_eq!(counted, others, "{text}");
    }
}

/// A text that would grow beyond what is held is refused, and the error is a line that repeats none
/// of it.
#[test]
fn bombs_are_refused() {
    let mut laughs = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for level in 1..12 {
        let before = format!("*a{}, ", level - 1).repeat(9);
        writeln!(laughs, "a{level}: &a{level} [{before}]").unwrap();
    }
    let maps = format!("a: &a {{x: 1}}\nb: [{}]\n", "*a, ".repeat(100_000));
    let merged = format!("a: &a {{x: 1}}\nb: [{}]\n", "{<<: *a}, ".repeat(100_000));
    let values = format!("a: [{}]\n", "{x: 1}, ".repeat(NODES_MAX / 2));
    let deep = "[".repeat(100_000);
    let nested = format!(
        "{}{NODE}{}",
        "{apiVersion: v1, kind: List, items: [".repeat(9),
        "]}".repeat(9)
    );
    let half = "apiVersion: appmesh.k8s.aws/v1beta2\nkind: VirtualNode\nmetadata: {name: u";
    for text in [&laughs, &maps, &merged, &values, &deep, &nested, half] {
        let error = Manifest::read(text).unwrap_err();
        assert!(
            !error.contains('\n') && error.chars().count() <= ERROR_CHARS_MAX,
            "{error}"
        );
    }
}
