//! Pods in, pods out: what is added, what is left alone, and that a patch makes of one the other.
#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use mesh_injector::annotations::{ENV, MOUNTS};
use mesh_injector::pod::{INJECTED, Settings, Skipped, inject};
use mesh_injector::review;
use serde_json::{Value, json};

fn settings() -> Settings {
    Settings {
        image: "registry/meshmeter-mesh:1".to_owned(),
        upstream: "http://origin.meshmeter:18000".to_owned(),
        aggregators: vec![
            "a-0.meshmeter:9090".to_owned(),
            "a-1.meshmeter:9090".to_owned(),
        ],
        version: "1.2.3".to_owned(),
    }
}

fn pod() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "jazz-", "labels": {"app": "jazz"}},
        "spec": {"containers": [{"name": "jazz", "image": "jazz"}]},
    })
}

fn review_of(pod: &Value) -> Value {
    json!({
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "prod",
            "operation": "CREATE",
            "object": pod,
        },
    })
}

/// What kube-apiserver makes of the answer.
fn admitted(pod: &Value) -> (Value, Value) {
    let body = review_of(pod).to_string();
    let (answer, _) = review::answer(body.as_bytes(), &settings()).unwrap();
    let response = answer["response"].clone();
    assert_eq!(response["uid"], "705ab4f5-6393-11e8-b7cc-42010a800002");
    assert_eq!(response["allowed"], true);
    let mut patched = pod.clone();
    if let Some(patch) = response["patch"].as_str() {
        assert_eq!(response["patchType"], "JSONPatch");
        let patch: json_patch::Patch =
            serde_json::from_slice(&BASE64.decode(patch).unwrap()).unwrap();
        json_patch::patch(&mut patched, &patch).unwrap();
    }
    (patched, response)
}

fn container<'a>(pod: &'a Value, list: &str, name: &str) -> &'a Value {
    let all = pod["spec"][list].as_array().unwrap();
    all.iter()
        .find(|container| container["name"] == name)
        .unwrap()
}

#[test]
fn a_pod_of_app_mesh_gets_annotations_volumes_and_a_native_sidecar() {
    let (patched, _) = admitted(&pod());
    assert_eq!(
        patched,
        inject(&pod(), &settings()).unwrap(),
        "the patch is the change"
    );
    let annotations = &patched["metadata"]["annotations"];
    assert_eq!(annotations[INJECTED], "1.2.3");
    assert_eq!(
        annotations[ENV],
        "ENVOY_RESOURCES_CONFIG_FILE=/etc/meshmeter/resources.yaml"
    );
    assert_eq!(
        annotations[MOUNTS],
        "meshmeter-config:/etc/meshmeter, meshmeter-modules:/opt/meshmeter"
    );
    let names: Vec<_> = patched["spec"]["initContainers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|container| &container["name"])
        .collect();
    assert_eq!(names, ["meshmeter-init", "meshmeter-interposer"]);
    let interposer = container(&patched, "initContainers", "meshmeter-interposer");
    assert_eq!(interposer["restartPolicy"], "Always");
    assert_eq!(interposer["securityContext"]["runAsUser"], 1337);
    let args = interposer["args"].to_string();
    assert!(
        args.contains("--aggregator=a-0.meshmeter:9090,a-1.meshmeter:9090"),
        "{args}"
    );
    // Mounts lead to volumes that are there.
    let volumes: Vec<_> = patched["spec"]["volumes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|volume| &volume["name"])
        .collect();
    for container in patched["spec"]["initContainers"].as_array().unwrap() {
        for mount in container["volumeMounts"].as_array().unwrap() {
            assert!(volumes.contains(&&mount["name"]), "{mount}");
        }
    }
    // What was there is there.
    assert_eq!(patched["spec"]["containers"], pod()["spec"]["containers"]);
    assert_eq!(patched["metadata"]["labels"], pod()["metadata"]["labels"]);
}

#[test]
fn twice_is_once() {
    let once = inject(&pod(), &settings()).unwrap();
    assert_eq!(inject(&once, &settings()), Err(Skipped::Done));
    let (twice, response) = admitted(&once);
    assert_eq!(twice, once);
    assert_eq!(response["warnings"], Value::Null);
}

#[test]
fn what_is_there_is_merged_with() {
    let mut pod = pod();
    pod["metadata"]["annotations"] = json!({ENV: "ENVOY_LOG_LEVEL=debug", MOUNTS: "certs:/certs"});
    pod["spec"]["initContainers"] = json!([{"name": "migrate"}]);
    pod["spec"]["volumes"] = json!([{"name": "certs", "secret": {"secretName": "certs"}}]);
    let (patched, _) = admitted(&pod);
    let annotations = &patched["metadata"]["annotations"];
    assert!(
        annotations[ENV]
            .as_str()
            .unwrap()
            .starts_with("ENVOY_LOG_LEVEL=debug, ")
    );
    assert!(
        annotations[MOUNTS]
            .as_str()
            .unwrap()
            .starts_with("certs:/certs, ")
    );
    assert_eq!(patched["spec"]["initContainers"][2]["name"], "migrate");
    assert_eq!(patched["spec"]["volumes"][0]["name"], "certs");
}

/// The controller leaves a sidecar that users made alone, so its container itself is added to.
#[test]
fn a_sidecar_of_the_users_own_is_added_to() {
    let mut pod = pod();
    let sidecar = json!({"name": "envoy", "image": "envoy", "env": [{"name": "A", "value": "1"}]});
    pod["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(sidecar);
    let (patched, _) = admitted(&pod);
    let sidecar = container(&patched, "containers", "envoy");
    assert_eq!(sidecar["env"][0]["name"], "A");
    assert_eq!(sidecar["env"][1]["value"], "/etc/meshmeter/resources.yaml");
    assert_eq!(sidecar["volumeMounts"].as_array().unwrap().len(), 2);
    assert_eq!(patched["metadata"]["annotations"][ENV], Value::Null);
}

#[test]
fn what_cannot_be_added_to_is_admitted_as_it_is_and_says_why() {
    let with = |change: fn(&mut Value)| {
        let mut pod = pod();
        change(&mut pod);
        pod
    };
    for (pod, warning) in [
        (
            with(|pod| pod["metadata"]["labels"]["meshmeter.io/inject"] = "disabled".into()),
            None,
        ),
        (
            with(|pod| pod["spec"]["hostNetwork"] = true.into()),
            Some("network of its host"),
        ),
        (
            with(|pod| {
                pod["metadata"]["annotations"] = json!({ENV: "ENVOY_RESOURCES_CONFIG_FILE=/mine"});
            }),
            Some("ENVOY_RESOURCES_CONFIG_FILE"),
        ),
        (
            with(|pod| pod["spec"]["volumes"] = json!([{"name": "meshmeter-config"}])),
            Some("volume meshmeter-config"),
        ),
        (
            with(|pod| pod["spec"]["containers"] = Value::Null),
            Some("no pod"),
        ),
        (
            with(|pod| pod["spec"]["volumes"] = json!("x")),
            Some("no pod"),
        ),
        (with(|pod| pod["metadata"] = json!("x")), Some("no pod")),
        (with(|pod| *pod = Value::Null), Some("no pod")),
    ] {
        let (patched, response) = admitted(&pod);
        assert_eq!(patched, pod);
        match warning {
            None => assert_eq!(response["warnings"], Value::Null),
            Some(warning) => {
                let said = response["warnings"][0].as_str().unwrap();
                assert!(said.contains(warning), "{said}");
            }
        }
    }
}

#[test]
fn what_is_no_review_is_refused_by_name() {
    for (body, why) in [
        ("{}", "apiVersion"),
        ("nonsense", "not an AdmissionReview"),
        (
            "{\"apiVersion\": \"admission.k8s.io/v1beta1\", \"request\": {\"uid\": \"1\"}}",
            "admission.k8s.io/v1 is understood",
        ),
    ] {
        let error = review::answer(body.as_bytes(), &settings())
            .unwrap_err()
            .to_string();
        assert!(error.contains(why), "{error}");
    }
}
