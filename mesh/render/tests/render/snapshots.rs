//! What is rendered, as files to read; every manifest is read strictly.
//!
//! `MESHMETER_WRITE_SNAPSHOTS=1 cargo test -p mesh-render --test render` writes them anew.

use std::path::PathBuf;

use mesh_render::options::Target;
use mesh_render::render;

use crate::cases;

const WRITE: &str = "MESHMETER_WRITE_SNAPSHOTS";

fn file(target: Target, name: &str) -> PathBuf {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots");
    PathBuf::from(format!("{folder}/{}.{name}.yaml", target.as_str()))
}

/// The first lines that differ, and those after them.
fn difference(expected: &str, rendered: &str) -> String {
    let same = expected.lines().zip(rendered.lines());
    let same = same.take_while(|(expected, rendered)| expected == rendered);
    let same = same.count();
    let rest = |text: &str, sign: &str| -> Vec<String> {
        let lines = text.lines().skip(same).take(8);
        lines.map(|line| format!("{sign} {line}")).collect()
    };
    let lines = [rest(expected, "-"), rest(rendered, "+")].concat();
    format!("from line {} on:\n{}", same + 1, lines.join("\n"))
}

#[test]
fn snapshots_hold() {
    let write = std::env::var_os(WRITE).is_some();
    let mut findings = Vec::new();
    for case in cases::all() {
        let rendered = render(case.target, &case.options).unwrap();
        let file = file(case.target, case.name);
        if write {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, &rendered).unwrap();
        }
        let expected = std::fs::read_to_string(&file).unwrap_or_default();
        if expected != rendered {
            let difference = difference(&expected, &rendered);
            findings.push(format!("{}: {difference}", file.display()));
        }
    }
    let findings = findings.join("\n");
    assert!(
        findings.is_empty(),
        "{findings}\n{WRITE}=1 writes them anew"
    );
}

#[test]
fn manifests_are_read_strictly() {
    for case in cases::all() {
        let rendered = render(case.target, &case.options).unwrap();
        let what = format!("{} {}", case.target.as_str(), case.name);
        if case.target == Target::Static {
            // Envoy itself reads it in tests/envoy.
            assert_eq!(
                tests_manifests::documents(&rendered).unwrap().len(),
                1,
                "{what}"
            );
            continue;
        }
        let objects = tests_manifests::check(&rendered);
        let objects = objects.unwrap_or_else(|error| panic!("{what}: {error:#}\n{rendered}"));
        assert!(!objects.is_empty(), "{what}");
        for object in objects {
            let namespace = object.namespace.as_deref();
            let known = ["prod", "kuma-system", "envoy-gateway-system"];
            let known = namespace.is_some_and(|namespace| known.contains(&namespace));
            assert!(known, "{what}: {object:?}");
        }
    }
}
