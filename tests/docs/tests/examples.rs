//! The examples of the walkthrough: read strictly, rendered, and served by the control plane.

use std::time::Duration;

use serde_json::Value;
use tests_deploy::{read, root};
use tests_docs::markdown;
use tests_support::process::Process;
use tests_support::{artifacts, clock};

/// Longest time until the control plane has read its folder.
const READ_MAX: Duration = Duration::from_mins(1);

/// Where djapp is, in the workspace.
const DJAPP: &str = "deploy/examples/djapp";

/// Both stages of djapp render, every field is known to its kind, and what belongs together has the
/// same labels.
#[test]
fn djapp_renders_and_is_strict() {
    let base = tests_deploy::kustomize(&format!("{DJAPP}/base")).unwrap();
    let meshed = tests_deploy::kustomize(&format!("{DJAPP}/meshed")).unwrap();
    assert_eq!((base.len(), meshed.len()), (7, 17));
    for node in meshed.iter().filter(|object| object.kind == "VirtualNode") {
        let pods = node.value["spec"]["podSelector"]["matchLabels"]
            .as_object()
            .unwrap();
        let deployment = meshed
            .iter()
            .find(|object| object.kind == "Deployment" && object.name == node.name);
        let template = &deployment.unwrap().value["spec"]["template"]["metadata"];
        for (label, value) in pods {
            assert_eq!(&template["labels"][label], value, "{}", node.name);
        }
    }
}

/// The autoscaler is that of the walkthrough, and the metric one that is served.
#[test]
fn the_autoscaler_is_the_one_of_the_walkthrough() {
    let text = read(&format!("{DJAPP}/hpa.yaml")).unwrap();
    let objects = tests_manifests::check(&text).unwrap();
    assert_eq!(objects[0].api_version, "autoscaling/v2");
    let walkthrough = read("docs/walkthrough.md").unwrap();
    let blocks = markdown::blocks(&walkthrough);
    let shown = blocks
        .iter()
        .find(|block| block.text.contains("kind: HorizontalPodAutoscaler"))
        .unwrap();
    let shown: Value = serde_saphyr::from_str(&shown.text).unwrap();
    assert_eq!(shown, objects[0].value);
    let api = read("docs/API.md").unwrap();
    let metric = shown["spec"]["metrics"][0]["pods"]["metric"]["name"]
        .as_str()
        .unwrap();
    let name = metric.strip_prefix("appmesh_").unwrap();
    assert!(api.contains(&format!("| `{name}` |")), "{metric}");
}

/// The control plane takes all of the mesh and refuses nothing of it.
#[tokio::test]
async fn the_control_plane_serves_the_mesh() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        "control-plane".to_owned(),
        "--listen=127.0.0.1:0".to_owned(),
        format!(
            "--manifests={}",
            root().join(DJAPP).join("meshed").display()
        ),
    ];
    let log = folder.path().join("log");
    let mut process = Process::spawn(&artifacts::mesh().unwrap(), &arguments, &[], &log).unwrap();
    let read = clock::wait_for("the mesh", READ_MAX, async || {
        process.check_running()?;
        let log = process.log();
        Ok(log.contains("mesh read").then_some(log))
    });
    let log = read.await.unwrap();
    assert!(log.contains("nodes=3 services=2"), "{log}");
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
}
