//! Versions are found where they are ours, and nowhere else.
//!
//! `@` stands for a version in these texts: they would be found in this file too.

use super::{Version, places};

fn found(file: &str, text: &str) -> Vec<String> {
    let text = text.replace('@', "1.2.3");
    let places = places(file, &text).into_iter();
    places.map(|place| text[place].to_owned()).collect()
}

#[test]
fn ours_are_found_and_no_others() {
    for (file, text, count) in [
        ("Cargo.toml", "[workspace.package]\nversion = \"@\"\n", 1),
        (
            "Cargo.toml",
            "[workspace.dependencies]\nversion = \"@\"\n",
            0,
        ),
        (
            "deploy/chart/Chart.yaml",
            "a: b\nversion: @\nappVersion: @\n",
            2,
        ),
        ("deploy/x.yaml", "a: b\nversion: @\n", 0),
        (
            "deploy/x.yaml",
            "image: registry.example.com/meshmeter/mesh:@\n",
            1,
        ),
        ("deploy/x.yaml", "image: envoyproxy/envoy:v@\n", 0),
        (
            "docs/x.md",
            "`meshmeter-@-amd64.tar`, `…/…:@`, docker://$name/$image:@",
            3,
        ),
        ("docs/x.md", "`aggregator-@-arm64.cdx.json`", 1),
        ("docs/x.md", "since v@", 0),
        (
            "docs/upgrade.md",
            "registry.example.com/meshmeter/mesh:@",
            0,
        ),
        ("CHANGELOG.md", "registry.example.com/meshmeter/mesh:@", 0),
        ("Cargo.lock", "\nname = \"a\"\nversion = \"@\"\n\n", 1),
        (
            "Cargo.lock",
            "\nname = \"a\"\nversion = \"@\"\nsource = \"x\"\n",
            0,
        ),
        (
            "tests/fuzz/Cargo.lock",
            "\nname = \"a\"\nversion = \"0.0.0\"\n\n",
            0,
        ),
    ] {
        assert_eq!(found(file, text), vec!["1.2.3"; count], "{file}: {text}");
    }
}

/// What comes before a release is part of a version, the architecture behind one is not.
#[test]
fn a_version_ends_where_it_ends() {
    for (text, version) in [
        ("meshmeter-@-amd64.tar", "1.2.3"),
        ("meshmeter-@-rc.1-amd64.tar", "1.2.3-rc.1"),
        ("a/mesh:@-rc.", "1.2.3"),
    ] {
        assert_eq!(found("docs/x.md", text), [version], "{text}");
    }
}

#[test]
fn what_is_no_version_is_refused() {
    for good in ["0.2.0", "10.0.11", "1.0.0-rc.2"] {
        let version: Version = good.parse().unwrap();
        assert_eq!(version.tag(), format!("v{good}"));
    }
    for bad in ["", "1", "1.2", "v1.2.3", "1.2.3.4", "1.2.3-amd64", "1.2.3 "] {
        let error = bad.parse::<Version>().unwrap_err().to_string();
        assert!(error.contains(&format!("{bad:?} is no version")), "{error}");
    }
}
