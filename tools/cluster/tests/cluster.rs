//! The whole of `scripts/cluster test`, where a cluster is given.

use std::env;
use std::process::Command;

use tests_support::skipped;

/// Kubeconfig of a cluster that may be installed into.
const KUBECONFIG: &str = "MESHMETER_CLUSTER_KUBECONFIG";
/// As `--load-with`.
const LOAD_WITH: &str = "MESHMETER_CLUSTER_LOAD_WITH";

#[test]
fn a_cluster_keeps_every_promise() {
    let Some(kubeconfig) = env::var_os(KUBECONFIG) else {
        let why = format!(
            "set {KUBECONFIG} to the kubeconfig of a cluster to install into, {LOAD_WITH} to what brings an archive to its \
             nodes, and run scripts/images before"
        );
        skipped::say("the walkthrough in a real cluster", &why);
        return;
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_cluster"));
    command.arg("test").arg("--kubeconfig").arg(kubeconfig);
    if let Some(load_with) = env::var_os(LOAD_WITH) {
        command.arg("--load-with").arg(load_with);
    }
    let output = command.output().unwrap();
    let table = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{table}\n{errors}");
}

#[test]
fn arguments_are_checked_before_anything_is_done() {
    for (arguments, wanted) in [
        (
            &["test", "--kubeconfig", "/nowhere", "--scenario", "storm"][..],
            "--scenario storm: there is no such scenario; `scripts/cluster list` names them",
        ),
        (&["test"], "--kubeconfig <FILE>"),
        (
            &["demo", "--kubeconfig", "/nowhere"],
            "invalid kubeconfig /nowhere",
        ),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cluster"));
        let output = command.args(arguments).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(errors.contains(wanted), "{arguments:?}: {errors}");
    }
}
