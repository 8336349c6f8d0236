//! Circles are found, and nothing else is.

use super::{of_crates, of_modules};

/// What it is about, modules with their text, and the circles among them.
type Case = (
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static [&'static str],
);

const CASES: [Case; 9] = [
    ("one way", &[("a", "use crate::b::B;"), ("b", "")], &[]),
    (
        "both ways",
        &[
            ("a", "use crate::b::B;"),
            ("b", "fn f() { crate::a::f(); }"),
        ],
        &["a circle: x/src/a -> x/src/b -> x/src/a"],
    ),
    (
        "through a third, in groups over lines",
        &[
            ("a", "use crate::{\n    c as d, b::{self, B as C},\n};"),
            ("b", "use crate::{I, c::{C}};"),
            ("c", "use super::a::A;"),
        ],
        &[
            "a circle: x/src/a -> x/src/c -> x/src/a",
            "a circle: x/src/b -> x/src/c -> x/src/a -> x/src/b",
        ],
    ),
    (
        "a module and what is in it",
        &[
            ("a", "use crate::a::b::B;"),
            ("a/b", "use super::A;\nuse crate::a::A2;"),
        ],
        &[],
    ),
    (
        "within a module",
        &[("a/b", "use super::c::C;"), ("a/c", "use crate::a::b::B;")],
        &["a circle: x/src/a/b -> x/src/a/c -> x/src/a/b"],
    ),
    (
        "what is in a module counts for it",
        &[
            ("a", ""),
            ("a/b", "use super::super::c::C;"),
            ("c", "use crate::a::A;"),
        ],
        &["a circle: x/src/a -> x/src/c -> x/src/a"],
    ),
    (
        "what is no module",
        &[("a", "use crate::B;"), ("b", "use crate::a::A;")],
        &[],
    ),
    (
        "comments and tests",
        &[
            (
                "a",
                "//! As [`crate::b`].\n#[cfg(test)]\nmod tests {\n    use crate::b::B;\n}",
            ),
            ("a/tests", "use crate::b::B;"),
            ("b", "use crate::a::A;"),
        ],
        &[],
    ),
    (
        "another crate",
        &[
            ("a", "use y_crate::b::B;\nuse other::crate_b::C;"),
            ("b", "use crate::a::A;"),
        ],
        &[],
    ),
];

/// Modules beside each other must not use each other, however the path is written and however deep
/// they are. A module and what is in it may, and tests and comments may name anything.
#[test]
fn circles_of_modules_are_found() {
    for (case, modules, expected) in CASES {
        let modules = modules
            .iter()
            .chain(&[("lib", "use a::A;\nuse crate::b::B;")]);
        let file = |(name, text): &(&str, &str)| (format!("x/src/{name}.rs"), (*text).to_owned());
        let files: Vec<_> = modules.map(file).collect();
        assert_eq!(of_modules(&files), expected, "{case}");
    }
}

/// A development dependency can close a circle that Cargo takes.
#[test]
fn circles_of_crates_are_found() {
    let manifest = |name: &str, rest: &str| {
        let text = format!("[package]\nname = \"{name}\"\n[dependencies]\n{rest}\n");
        (format!("{name}/Cargo.toml"), text)
    };
    let core = manifest("core", "serde.workspace = true");
    let tests = manifest("tests", "core = { workspace = true }");
    assert_eq!(of_crates(&[core, tests.clone()]), Vec::<String>::new());
    let both = [
        "[dev-dependencies]\ntests.workspace = true",
        "[dev-dependencies.tests]\nworkspace = true",
    ];
    for rest in both {
        assert_eq!(
            of_crates(&[manifest("core", rest), tests.clone()]),
            ["a circle: core -> tests -> core"]
        );
    }
}
