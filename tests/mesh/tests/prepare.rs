//! What the init container leaves is what a real Envoy takes.

use std::process::Command;

use tests_support::artifacts::{self, Module};

#[test]
fn envoy_takes_the_resources_file() {
    let folder = tempfile::tempdir().unwrap();
    let filter = Module::Filter.path().unwrap();
    let prepared = Command::new(artifacts::mesh().unwrap())
        .arg("prepare")
        .arg("--from")
        .arg(filter.parent().unwrap())
        .arg("--modules")
        .arg(folder.path())
        .arg("--config")
        .arg(folder.path())
        .status();
    assert!(prepared.unwrap().success());
    let copied = std::fs::read(folder.path().join(filter.file_name().unwrap()));
    assert_eq!(copied.unwrap(), std::fs::read(&filter).unwrap());
    let output = Command::new(artifacts::envoy().unwrap())
        .args([
            "--mode",
            "validate",
            "--config-yaml",
            "node: {id: sidecar, cluster: mesh}",
            "-c",
        ])
        .arg(folder.path().join("resources.yaml"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

/// A stock Envoy's bootstrap names the socket of an SDS server as App Mesh's agent did.
#[test]
fn envoy_takes_the_bootstrap() {
    let folder = tempfile::tempdir().unwrap();
    let prepared = Command::new(artifacts::mesh().unwrap())
        .args(["prepare", "--bootstrap", "mesh/m/virtualNode/n"])
        .args(["--sds-socket", "/run/spire/sockets/agent.sock"])
        .arg("--config")
        .arg(folder.path())
        .status();
    assert!(prepared.unwrap().success());
    let bootstrap = folder.path().join("envoy.yaml");
    let text = std::fs::read_to_string(&bootstrap).unwrap();
    for part in [
        "static_cluster_sds_unix_socket",
        "/run/spire/sockets/agent.sock",
    ] {
        assert!(text.contains(part), "{text}");
    }
    let output = Command::new(artifacts::envoy().unwrap())
        .args(["--mode", "validate", "-c"])
        .arg(bootstrap)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}
