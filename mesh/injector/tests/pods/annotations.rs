//! What the controller of App Mesh made of the value of an annotation is what becomes of it here.

use mesh_injector::review::ReviewOutcome;
use mesh_injector::skipped::Skipped;
use serde_json::{Value, json};

use crate::{UNRESTRICTED, admitted, case, settings};

const CONTROLLER: &str = "appmesh.k8s.aws/sidecarInjectorWebhook";
const PORTS: &str = "appmesh.k8s.aws/ports";
const IPS: &str = "appmesh.k8s.aws/egressIgnoredIPs";
const IGNORED: &str = "appmesh.k8s.aws/egressIgnoredPorts";

/// The values of these variables of what redirects.
const VARIABLES: [&str; 3] = [
    "APPMESH_APP_PORTS",
    "APPMESH_EGRESS_IGNORED_IP",
    "APPMESH_EGRESS_IGNORED_PORTS",
];
/// If no annotation says otherwise.
const DEFAULTS: [&str; 3] = ["9080", METADATA, "22"];
const METADATA: &str = "169.254.169.254";

/// What becomes of `stock/selected` with these annotations.
fn annotated(annotations: &Value) -> (Value, ReviewOutcome) {
    let mut review = case("stock/selected");
    review["request"]["object"]["metadata"]["annotations"] = annotations.clone();
    admitted(&review, &settings("stock"))
}

fn ports(count: u16) -> String {
    let ports: Vec<_> = (8_000..8_000 + count)
        .map(|port| port.to_string())
        .collect();
    ports.join(",")
}

/// (annotations, why the pod is left as it is).
#[test]
fn some_values_leave_a_pod_as_it_is() {
    for (annotations, reason) in [
        (json!({CONTROLLER: "disabled"}), "not_in_mesh"),
        (json!({CONTROLLER: "Disabled"}), "not_in_mesh"),
        (json!({CONTROLLER: "DISABLED"}), "not_in_mesh"),
        (json!({"meshmeter.io/inject": "Disabled"}), "disabled"),
        (json!({"meshmeter.io/inject": "false"}), "disabled"),
        (json!({PORTS: ports(20)}), "annotation"),
        (json!({PORTS: "8010:8000"}), "annotation"),
        // The image that redirects adds 22 to these.
        (json!({IGNORED: ports(15)}), "annotation"),
    ] {
        let (_, answer) = annotated(&annotations);
        let skipped = answer.skipped.as_ref().map(Skipped::reason);
        assert_eq!(skipped, Some(reason), "{annotations}");
    }
}

/// (annotations, [`VARIABLES`]).
#[test]
fn values_mean_what_they_meant() {
    for (annotations, expected) in [
        // Neither of the two words: where a virtual node selects the pod.
        (json!({CONTROLLER: "false"}), DEFAULTS),
        (json!({CONTROLLER: "Enabled"}), DEFAULTS),
        (json!({CONTROLLER: ""}), DEFAULTS),
        // An empty list is one without items.
        (json!({PORTS: ""}), ["0", METADATA, "22"]),
        (json!({PORTS: " , "}), ["0", METADATA, "22"]),
        (json!({IPS: ""}), ["9080", "", "22"]),
        (json!({IGNORED: ""}), ["9080", METADATA, ""]),
        (json!({PORTS: "8080, 8443,"}), ["8080,8443", METADATA, "22"]),
        (json!({PORTS: "8000:8010"}), ["8000:8010", METADATA, "22"]),
        (json!({IGNORED: "443"}), ["9080", METADATA, "443"]),
        (
            json!({"meshmeter.io/virtual-node": "", "meshmeter.io/mesh": ""}),
            DEFAULTS,
        ),
        (
            json!({"appmesh.k8s.aws/cpuRequest": "", "appmesh.k8s.aws/memoryLimit": ""}),
            DEFAULTS,
        ),
        (
            json!({"appmesh.k8s.aws/sidecarEnv": "", "appmesh.k8s.aws/volumeMounts": ""}),
            DEFAULTS,
        ),
    ] {
        let (pod, answer) = annotated(&annotations);
        assert_eq!(answer.skipped, None, "{annotations}");
        let starting = pod["spec"]["initContainers"].as_array().unwrap();
        let redirects = |one: &&Value| one["name"] == UNRESTRICTED;
        let redirect = starting.iter().find(redirects).unwrap();
        let env = redirect["env"].as_array().unwrap();
        let value = |name| {
            let variable = env.iter().find(|one| one["name"] == name).unwrap();
            variable["value"].as_str().unwrap()
        };
        assert_eq!(VARIABLES.map(value), expected, "{annotations}");
    }
}

/// With a word that is neither and no virtual node nobody is told: the controller said nothing
/// either.
#[test]
fn a_word_that_is_neither_selects_nothing() {
    let mut review = case("stock/selected");
    let metadata = &mut review["request"]["object"]["metadata"];
    metadata["annotations"] = json!({CONTROLLER: "false"});
    metadata["labels"] = json!({"app": "none"});
    let (_, answer) = admitted(&review, &settings("stock"));
    let skipped = answer.skipped.as_ref().map(Skipped::reason);
    assert_eq!(skipped, Some("not_selected"));
    assert_eq!(answer.review["response"]["warnings"], Value::Null);
}
