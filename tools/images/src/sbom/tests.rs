use serde_json::{Value, json};

use super::Packages;

/// As cargo prints two programs that share a library of ours, whose own packages come once.
const TREE: &str = "\
0aggregator v0.1.0 (/a/tree/aggregator)|Apache-2.0
1common-log v0.1.0 (/a/tree/common/log)|Apache-2.0
2tracing v0.1.4|MIT
1bytes v1.12.2|MIT / Apache-2.0

0mesh v0.1.0 (/a/tree/mesh)|Apache-2.0
1common-log v0.1.0 (/a/tree/common/log)|Apache-2.0 (*)
1ring v0.17.14|Apache-2.0 AND ISC
";

fn document(packages: &Packages) -> Value {
    serde_json::from_str(&packages.document("mesh", "0.1.0", "1.95.0").unwrap()).unwrap()
}

fn names(document: &Value) -> Vec<&str> {
    let components = document["components"].as_array().unwrap();
    let names = components.iter().map(|one| one["name"].as_str().unwrap());
    names.collect()
}

/// A program's document has what it is built from, also what cargo printed below another program,
/// and no more.
#[test]
fn a_program_has_its_own_packages() {
    let packages = Packages::parse(TREE).unwrap();
    let mesh = document(&packages.of("mesh").unwrap());
    assert_eq!(
        names(&mesh),
        ["common-log", "mesh", "ring", "tracing", "rust-std"]
    );
    let aggregator = document(&packages.of("aggregator").unwrap());
    assert_eq!(
        names(&aggregator),
        ["aggregator", "bytes", "common-log", "tracing", "rust-std"]
    );
    let error = packages.of("filter").unwrap_err();
    assert!(error.to_string().contains("filter"), "{error}");
}

/// Packages of a registry have a name that scanners know, ours one that no registry has; licences
/// are expressions; folders of this machine are nowhere.
#[test]
fn packages_are_named_as_scanners_know_them() {
    let packages = Packages::parse(TREE).unwrap();
    let document = document(&packages);
    let components = document["components"].as_array().unwrap();
    let find = |name: &str| components.iter().find(|one| one["name"] == name).unwrap();
    assert_eq!(
        *find("bytes"),
        json!({
            "type": "library",
            "bom-ref": "pkg:cargo/bytes@1.12.2",
            "name": "bytes",
            "version": "1.12.2",
            "purl": "pkg:cargo/bytes@1.12.2",
            "licenses": [{"expression": "MIT OR Apache-2.0"}],
        })
    );
    assert_eq!(find("mesh")["purl"], "pkg:generic/mesh@0.1.0");
    assert!(!document.to_string().contains("/a/tree"));
}

/// Each edge is there, from the image itself downwards, and both parts of a union are.
#[test]
fn edges_lead_from_the_image_to_every_package() {
    let packages = Packages::parse(TREE).unwrap();
    let filter = Packages::parse("0filter v0.1.0 (/a/tree/filter)|Apache-2.0\n").unwrap();
    let document = document(&packages.of("mesh").unwrap().and(filter));
    let edges = document["dependencies"].as_array().unwrap();
    let of = |reference: &str| {
        let edge = edges.iter().find(|edge| edge["ref"] == reference);
        edge.unwrap_or_else(|| panic!("{reference}"))["dependsOn"].clone()
    };
    assert_eq!(
        of("meshmeter/mesh@0.1.0"),
        json!([
            "pkg:generic/filter@0.1.0",
            "pkg:generic/mesh@0.1.0",
            "pkg:generic/rust-std@1.95.0"
        ])
    );
    assert_eq!(
        of("pkg:generic/mesh@0.1.0"),
        json!(["pkg:generic/common-log@0.1.0", "pkg:cargo/ring@0.17.14"])
    );
    assert_eq!(
        of("pkg:generic/common-log@0.1.0"),
        json!(["pkg:cargo/tracing@0.1.4"])
    );
}

/// What is not as cargo prints it is refused with the line.
#[test]
fn other_text_is_refused() {
    for text in ["", "nothing", "0no-version|MIT", "0a v1|MIT\n2b v1|MIT"] {
        assert!(Packages::parse(text).is_err(), "{text:?}");
    }
}
