//! Each check finds what it is for and leaves alone what is in order.

use super::wrapping::{wide_comments, wrapped_paragraphs};
use super::{FILE_LINES_MAX, Files, length, lost_paths, machine_path, manifest};

/// A document may name files from the root or from beside itself, and must not name what is gone.
#[test]
fn documents_name_files_that_exist() {
    let files = Files::new(["README.md", "docs/GLOSSARY.md", "filter/core/src/lib.rs"].into_iter());
    let check = |text| lost_paths(&files, "docs/HOW.md", text);
    let fine = "See [words](GLOSSARY.md#pod), [home](../README.md), `filter/core/src/lib.rs`, `filter/core/`, \
                `pods/*`, `/metrics`, `application/json`, `target/wasm/a.json`, `lib.rs` and [web](https://a.example/b.md).";
    assert_eq!(check(fine), Vec::<String>::new());
    assert_eq!(
        check("first\nsee `filter/src/gone.rs`"),
        ["docs/HOW.md:2: filter/src/gone.rs does not exist"]
    );
    assert_eq!(
        check("[a](../GONE.md)"),
        ["docs/HOW.md:1: ../GONE.md does not exist"]
    );
    assert_eq!(check("[a](../../README.md)").len(), 1, "leaves the tree");
}

/// Names follow folders, with hyphens; lints come from the workspace.
#[test]
fn crates_are_named_after_their_folders() {
    let text = |name: &str| format!("[package]\nname = \"{name}\"\n\n[lints]\nworkspace = true\n");
    assert!(manifest("filter/core/Cargo.toml", &text("filter-core")).is_empty());
    assert!(manifest("tools/xtask/Cargo.toml", &text("xtask")).is_empty());
    assert!(manifest("Cargo.toml", "[workspace]\n").is_empty());
    assert_eq!(manifest("filter/core/Cargo.toml", &text("core")).len(), 1);
    assert_eq!(
        manifest("filter/Cargo.toml", "[package]\nname = \"filter\"\n").len(),
        1
    );
}

/// A path of one machine is found anywhere in a line; the same word inside a longer path is not
/// one.
#[test]
fn machine_paths_are_found() {
    let path = |folder: &str| format!("a\nsee {}/x", ["", folder].join("/"));
    assert_eq!(machine_path(&path("root")), Some(2));
    assert_eq!(machine_path(&path("home")), Some(2));
    assert_eq!(machine_path(&path("usr")), None);
    assert_eq!(machine_path(&format!("$X{}", &path("work")[6..])), None);
}

/// Long files are found, generated ones and tests are not.
#[test]
fn long_files_are_found() {
    let text = "x\n".repeat(FILE_LINES_MAX + 1);
    assert!(length("a/src/lib.rs", &text).is_some());
    assert!(length("a/src/lib.rs", &text[2..]).is_none());
    assert!(length("a/src/gen/b.rs", &text).is_none());
    assert!(length("a/src/b/tests.rs", &text).is_none());
}

/// Prose over two lines is found; lists, tables, code and headings are left alone.
#[test]
fn wrapped_paragraphs_are_found() {
    let fine = "# A\nOne.\n\n- two\n- three\n1. four\n\n| a |\n|---|\n\n```sh\na\nb\n```\nFive.\n";
    assert_eq!(wrapped_paragraphs("A.md", fine), Vec::<String>::new());
    for (text, line) in [
        ("One\ntwo.", 2),
        ("- one\n  two", 2),
        ("```\na\n```\nb\nc", 5),
    ] {
        let findings = wrapped_paragraphs("A.md", text);
        assert_eq!(findings.len(), 1, "{text}");
        assert!(findings[0].starts_with(&format!("A.md:{line}: ")), "{text}");
    }
}

/// Code is rustfmt's; a link is as wide as it is; tables and pictures are comments like any other.
#[test]
fn wide_comments_are_found() {
    let long = "x".repeat(100);
    let text = format!(
        "//! {long}\nlet a = \"{long}\";\n    // see https://{long}\n//! ```text\n//! | {long} |\n//! ```\n"
    );
    assert_eq!(
        wide_comments("a.rs", &text),
        [1, 5].map(|line| format!("a.rs:{line}: a comment wider than 100 columns"))
    );
}
