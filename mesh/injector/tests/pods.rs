//! Pods in, pods out. Each `tests/pods/SETTINGS/CASE.review.json` is what kube-apiserver sends; `CASE.yaml` beside it is what
//! becomes of the pod. `MESHMETER_REGENERATE=1 cargo test -p mesh-injector` writes the latter anew, to be read before it is kept.
#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use mesh_injector::annotations::{ENV, MOUNTS};
use mesh_injector::manifest::{Left, inject_all};
use mesh_injector::pod::{INJECTED, Skipped, inject};
use mesh_injector::review::{self, Answer};
use mesh_injector::settings::{Modules, Secure, Settings, Stock};
use mesh_injector::virtual_node::{NoVirtualNode, Unknown, VirtualNode, VirtualNodes};
use serde_json::{Value, json};

#[path = "pods/checks.rs"]
mod checks;

const REGENERATE: &str = "MESHMETER_REGENERATE";
const NAMESPACE: &str = "prod";
/// Changes the pod's network, which the profile `restricted` does not allow.
const UNRESTRICTED: &str = "meshmeter-redirect";

/// The settings that a folder of cases is named after.
fn settings(folder: &str) -> Settings {
    let mut settings = Settings {
        image: "registry.example.com/meshmeter/mesh:1.2.3".to_owned(),
        upstream: "http://meshmeter-origin.meshmeter.svc.cluster.local:18000".to_owned(),
        aggregators: [0, 1]
            .map(|nth| format!("meshmeter-{nth}.meshmeter-ingest.meshmeter.svc.cluster.local:7470"))
            .into(),
        secure: None,
        modules: Modules::Copied,
        stock: None,
        events: false,
        interposer_args: Vec::new(),
        version: "1.2.3".to_owned(),
    };
    match folder {
        "app-mesh" => {}
        "image-volume" => settings.modules = Modules::ImageVolume,
        "secured" => {
            settings.events = true;
            settings.interposer_args = vec!["--direction=both".to_owned()];
            settings.secure = Some(Secure {
                authority: "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
                    .to_owned(),
                server_name: Some("meshmeter-ingest.meshmeter.svc".to_owned()),
                audience: Some("meshmeter".to_owned()),
            });
        }
        "stock" => {
            settings.stock = Some(Stock {
                image: "registry.example.com/envoy:v1.36".to_owned(),
                redirect_image: "registry.example.com/proxy-route-manager:v7".to_owned(),
                mesh: Some("dj-app".to_owned()),
            });
        }
        other => panic!("a folder without settings: {other}"),
    }
    settings
}

/// The mesh of djapp, and pods that two of its nodes want.
struct Djapp;

impl VirtualNodes for Djapp {
    fn selecting(
        &self,
        namespace: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<VirtualNode, NoVirtualNode> {
        match labels.get("app").map(String::as_str) {
            Some("jazz") => self.named(namespace, "jazz-v1").ok_or(NoVirtualNode::None),
            Some("both") => {
                let names = ["metal-v1", "metal-v2"].map(str::to_owned);
                Err(NoVirtualNode::Several(names.into()))
            }
            _ => Err(NoVirtualNode::None),
        }
    }

    fn named(&self, namespace: &str, name: &str) -> Option<VirtualNode> {
        (namespace == NAMESPACE && name == "jazz-v1").then(|| VirtualNode {
            aws_name: None,
            name: name.to_owned(),
            mesh: "dj-app".to_owned(),
            ports: vec![9_080],
        })
    }
}

/// What kube-apiserver makes of the answer.
fn admitted(review: &Value, settings: &Settings) -> (Value, Answer) {
    let answer = review::answer(review.to_string().as_bytes(), settings, &Djapp).unwrap();
    let response = &answer.review["response"];
    assert_eq!(answer.review["kind"], "AdmissionReview");
    assert_eq!(answer.review["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(response["uid"], review["request"]["uid"]);
    assert_eq!(response["allowed"], true);
    let mut patched = review["request"]["object"].clone();
    if let Some(patch) = response["patch"].as_str() {
        assert_eq!(response["patchType"], "JSONPatch");
        let patch = BASE64.decode(patch).unwrap();
        let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
        json_patch::patch(&mut patched, &patch).unwrap();
    }
    (patched, answer)
}

fn cases() -> Vec<(String, PathBuf)> {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pods");
    let mut cases = Vec::new();
    for folder in fs::read_dir(all)
        .unwrap()
        .map(|folder| folder.unwrap().path())
    {
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        if !folder.is_dir() {
            continue;
        }
        for file in fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().path())
        {
            if file.to_str().unwrap().ends_with(".review.json") {
                cases.push((name.clone(), file));
            }
        }
    }
    assert!(cases.len() > 30, "{cases:?}");
    cases
}

fn read(file: &Path) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

/// What is new in a pod: annotations and lists whole, with what was there before by its name alone. The rest is as it was.
fn change(before: &Value, after: &Value) -> Value {
    let mut rest = after.clone();
    rest["metadata"]["annotations"] = before["metadata"]["annotations"].clone();
    let mut change = json!({"annotations": after["metadata"]["annotations"]});
    for list in ["initContainers", "containers", "volumes"] {
        rest["spec"][list] = before["spec"][list].clone();
        let there = before["spec"][list].as_array().cloned().unwrap_or_default();
        let items = after["spec"][list].as_array().into_iter().flatten();
        let items = items.map(|item| {
            if there.contains(item) {
                format!("{} as it was", item["name"].as_str().unwrap()).into()
            } else {
                item.clone()
            }
        });
        change[list] = items.collect();
    }
    checks::without_nulls(&mut rest);
    let mut before = before.clone();
    checks::without_nulls(&mut before);
    assert_eq!(rest, before);
    change
}

#[test]
fn pods_become_what_the_table_says() {
    let mut wrong = Vec::new();
    for (folder, file) in cases() {
        let review = read(&file);
        let before = &review["request"]["object"];
        let (after, answer) = admitted(&review, &settings(&folder));
        let mut became = match &answer.skipped {
            None => change(before, &after),
            Some(skipped) => {
                assert_eq!(&after, before, "{}", file.display());
                json!({"left": skipped.to_string(), "reason": skipped.reason()})
            }
        };
        became["warnings"] = answer.review["response"]["warnings"].clone();
        checks::without_nulls(&mut became);
        let expected = PathBuf::from(file.to_str().unwrap().replace(".review.json", ".yaml"));
        if std::env::var_os(REGENERATE).is_some() {
            fs::write(&expected, serde_saphyr::to_string(&became).unwrap()).unwrap();
        }
        let text = fs::read_to_string(&expected).unwrap_or_default();
        if serde_saphyr::from_str::<Value>(&text).ok().as_ref() != Some(&became) {
            wrong.push(expected);
        }
    }
    assert!(
        wrong.is_empty(),
        "otherwise than the table says: {wrong:#?}; {REGENERATE}=1 writes it anew"
    );
}

#[test]
fn kube_apiserver_would_take_them() {
    for (folder, file) in cases() {
        let review = read(&file);
        let before = &review["request"]["object"];
        let (after, answer) = admitted(&review, &settings(&folder));
        if answer.skipped.is_some() {
            continue;
        }
        let pod = checks::strictly(&after);
        checks::fits_together(&pod);
        let there = checks::strictly(before).spec.unwrap();
        let there: Vec<_> = there
            .init_containers
            .iter()
            .flatten()
            .chain(&there.containers)
            .map(|one| &one.name)
            .collect();
        let spec = pod.spec.as_ref().unwrap();
        let added = spec
            .init_containers
            .iter()
            .flatten()
            .chain(&spec.containers);
        let added: Vec<_> = added.filter(|one| !there.contains(&&one.name)).collect();
        assert!(added.len() >= 2, "{}", file.display());
        for container in added.iter().filter(|one| one.name != UNRESTRICTED) {
            checks::is_restricted(container);
        }
    }
}

/// kube-apiserver calls again when others have changed the pod since.
#[test]
fn twice_is_once() {
    for (folder, file) in cases() {
        let mut review = read(&file);
        let settings = settings(&folder);
        let (once, first) = admitted(&review, &settings);
        review["request"]["object"] = once.clone();
        let (twice, second) = admitted(&review, &settings);
        assert_eq!(twice, once, "{}", file.display());
        if first.skipped.is_none() {
            assert_eq!(second.skipped, Some(Skipped::Done), "{}", file.display());
            assert_eq!(second.review["response"]["warnings"], Value::Null);
        }
        // With another webhook's container before and a changed image, too.
        if let Some(starting) = review["request"]["object"]["spec"]["initContainers"].as_array_mut()
        {
            starting.insert(0, json!({"name": "theirs", "image": "theirs"}));
            for one in starting {
                one["imagePullPolicy"] = "Always".into();
            }
            let changed = review["request"]["object"].clone();
            if first.skipped.is_none() {
                assert_eq!(
                    admitted(&review, &settings).0,
                    changed,
                    "{}",
                    file.display()
                );
            }
        }
    }
}

fn case(name: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pods");
    read(&folder.join(name).with_extension("review.json"))
}

/// Between two calls App Mesh's controller, or another webhook, may have added the sidecar.
#[test]
fn a_second_call_completes_what_others_changed() {
    let settings = settings("secured");
    let mut review = case("secured/generate-name");
    let (once, _) = admitted(&review, &settings);
    // The controller's sidecar has what the annotations say.
    let mut made = once.clone();
    let sidecar = |mounts: Value, env: Value| json!({"name": "envoy", "image": "envoy", "volumeMounts": mounts, "env": env});
    let mounts = json!([
        {"name": "meshmeter-config", "mountPath": "/etc/meshmeter", "readOnly": true},
        {"name": "meshmeter-modules", "mountPath": "/opt/meshmeter", "readOnly": true},
        {"name": "meshmeter-token", "mountPath": "/var/run/secrets/meshmeter", "readOnly": true},
    ]);
    let env =
        json!([{"name": "ENVOY_RESOURCES_CONFIG_FILE", "value": "/etc/meshmeter/resources.yaml"}]);
    let with_all = sidecar(mounts, env);
    made["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(with_all.clone());
    review["request"]["object"] = made.clone();
    assert_eq!(admitted(&review, &settings).1.skipped, Some(Skipped::Done));
    // That of somebody who does not know of them gets it now.
    let with_nothing = sidecar(json!([]), json!([]));
    made["spec"]["containers"][1] = with_nothing;
    review["request"]["object"] = made;
    let (again, _) = admitted(&review, &settings);
    assert_eq!(again["spec"]["containers"][1], with_all);
    // Annotations that were overwritten are there again.
    let mut overwritten = once.clone();
    overwritten["metadata"]["annotations"][ENV] = "A=1".into();
    review["request"]["object"] = overwritten;
    let (again, _) = admitted(&review, &settings);
    let annotations = &again["metadata"]["annotations"];
    assert_eq!(
        annotations[ENV],
        "A=1, ENVOY_RESOURCES_CONFIG_FILE=/etc/meshmeter/resources.yaml"
    );
    assert_eq!(annotations[MOUNTS], once["metadata"]["annotations"][MOUNTS]);
}

/// An authority that changes is that of the next pod.
#[test]
fn settings_may_be_swapped() {
    let review = case("secured/generate-name");
    let mut settings = settings("secured");
    let before = admitted(&review, &settings).0;
    settings.secure.as_mut().unwrap().authority = "another".to_owned();
    let after = admitted(&review, &settings).0;
    let difference = json_patch::diff(&before, &after).to_string();
    assert!(difference.contains("another"), "{difference}");
    assert_eq!(json_patch::diff(&before, &after).0.len(), 1, "{difference}");
}

/// The answer says about whom it is, and whether anybody is to be told.
#[test]
fn the_answer_names_the_pod() {
    let (_, answer) = admitted(&case("app-mesh/generate-name"), &settings("app-mesh"));
    assert_eq!(
        (answer.namespace.as_str(), answer.name.as_str()),
        (NAMESPACE, "jazz-v1-5d8f6c7b9d-")
    );
    assert!(!answer.dry_run);
    let (_, answer) = admitted(&case("app-mesh/dry-run"), &settings("app-mesh"));
    assert!(answer.dry_run);
    let (_, answer) = admitted(&case("app-mesh/bare"), &settings("app-mesh"));
    assert_eq!(answer.name, "jazz");
}

#[test]
fn what_is_no_pod_is_left_as_it_is() {
    let settings = settings("app-mesh");
    for change in [
        |pod: &mut Value| pod["spec"]["containers"] = Value::Null,
        |pod: &mut Value| pod["spec"]["volumes"] = json!("x"),
        |pod: &mut Value| pod["spec"]["initContainers"] = json!("x"),
        |pod: &mut Value| pod["metadata"] = json!("x"),
        |pod: &mut Value| pod["metadata"]["annotations"] = json!("x"),
        |pod: &mut Value| *pod = Value::Null,
    ] {
        let mut review = case("app-mesh/generate-name");
        change(&mut review["request"]["object"]);
        let (after, answer) = admitted(&review, &settings);
        assert_eq!(after, review["request"]["object"]);
        assert!(
            matches!(answer.skipped, Some(Skipped::NoPod(_))),
            "{:?}",
            answer.skipped
        );
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
        let error = review::answer(body.as_bytes(), &settings("app-mesh"), &Unknown);
        let error = error.unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

/// The checks can fail.
#[test]
fn what_is_wrong_is_seen() {
    let pod = case("app-mesh/bare")["request"]["object"].clone();
    checks::fits_together(&checks::strictly(&pod));
    let wrong: [fn(&mut Value); 6] = [
        |pod| pod["spec"]["containers"][0]["imagee"] = "x".into(),
        |pod| pod["spec"]["volumes"] = json!([{"name": "a", "emptyDir": {"limit": "1"}}]),
        |pod| {
            pod["spec"]["containers"][0]["volumeMounts"] =
                json!([{"name": "none", "mountPath": "/x"}]);
        },
        |pod| pod["spec"]["containers"][0]["resources"] = json!({"limits": {"memory": "64 MB"}}),
        |pod| pod["spec"]["containers"][0]["startupProbe"] = json!({"httpGet": {"port": 1}}),
        |pod| pod["spec"]["initContainers"] = pod["spec"]["containers"].clone(),
    ];
    for wrong in wrong {
        let mut pod = pod.clone();
        wrong(&mut pod);
        let checked = std::panic::catch_unwind(|| checks::fits_together(&checks::strictly(&pod)));
        assert!(checked.is_err(), "{pod}");
    }
}

/// A dry run finds pods in what makes them.
#[test]
fn manifests_have_pods() {
    let pod = case("app-mesh/generate-name")["request"]["object"].clone();
    let template = json!({"metadata": pod["metadata"], "spec": pod["spec"]});
    let deployment = json!({"kind": "Deployment", "metadata": {"name": "jazz", "namespace": "band"}, "spec": {"template": template}});
    let job = json!({"kind": "CronJob", "metadata": {"name": "report"}, "spec": {"jobTemplate": {"spec": {"template": template}}}});
    let service = json!({"kind": "Service", "metadata": {"name": "jazz"}, "spec": {}});
    let mut list = json!({"kind": "List", "items": [deployment, job, service, pod]});
    let settings = settings("app-mesh");
    let outcomes = inject_all(&mut list, NAMESPACE, &settings, &Unknown);
    let names: Vec<_> = outcomes
        .iter()
        .map(|outcome| outcome.what.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "Deployment band/jazz",
            "CronJob prod/report",
            "Service prod/jazz",
            "Pod prod/jazz-v1-5d8f6c7b9d-"
        ]
    );
    let left: Vec<_> = outcomes.into_iter().map(|outcome| outcome.left).collect();
    assert_eq!(left, [None, None, Some(Left::NoPods), None]);
    let expected = inject(&template, NAMESPACE, &settings, &Unknown).unwrap();
    assert_eq!(list["items"][0]["spec"]["template"], expected);
    assert_eq!(
        list["items"][1]["spec"]["jobTemplate"]["spec"]["template"],
        expected
    );
    assert_eq!(list["items"][2], service);
    assert_eq!(
        list["items"][3]["metadata"]["annotations"][INJECTED],
        "1.2.3"
    );
}

/// The pod of `stock/selected`, changed.
fn changed(change: fn(&mut Value)) -> Value {
    let mut review = case("stock/selected");
    change(&mut review["request"]["object"]);
    review
}

/// What of ours would listen where the application does, and what would not.
#[test]
fn ports_have_one_owner() {
    fn ports(pod: &mut Value, ports: Value) {
        pod["spec"]["containers"][0]["ports"] = ports;
    }
    let cases: [(fn(&mut Value), Option<u16>, Option<u16>); 12] = [
        (
            |pod| ports(pod, json!([{"containerPort": 9_901}])),
            Some(9_901),
            None,
        ),
        (
            |pod| ports(pod, json!([{"containerPort": 15_000, "name": "http"}])),
            Some(15_000),
            None,
        ),
        (
            |pod| {
                ports(
                    pod,
                    json!([{"containerPort": 80}, {"containerPort": 15_001, "protocol": "TCP"}]),
                )
            },
            Some(15_001),
            None,
        ),
        (
            |pod| ports(pod, json!([{"containerPort": 15_092}])),
            Some(15_092),
            None,
        ),
        (
            |pod| ports(pod, json!([{"containerPort": 15_090}])),
            Some(15_090),
            Some(15_090),
        ),
        (
            |pod| ports(pod, json!([{"containerPort": 15_091}])),
            Some(15_091),
            Some(15_091),
        ),
        // Another protocol, another address of the host, another network.
        (
            |pod| ports(pod, json!([{"containerPort": 15_001, "protocol": "UDP"}])),
            None,
            None,
        ),
        (
            |pod| ports(pod, json!([{"containerPort": 8_080, "hostPort": 15_001}])),
            None,
            None,
        ),
        (
            |pod| {
                pod["spec"]["containers"][0]["livenessProbe"] =
                    json!({"httpGet": {"port": 9_901, "path": "/"}})
            },
            Some(9_901),
            None,
        ),
        // What ends before the Envoy begins, and what stays.
        (
            |pod| {
                pod["spec"]["initContainers"] =
                    json!([{"name": "a", "image": "a", "ports": [{"containerPort": 15_001}]}])
            },
            None,
            None,
        ),
        (
            |pod| {
                pod["spec"]["initContainers"] =
                    json!([{"name": "a", "image": "a", "ports": [{"containerPort": 15_090}]}])
            },
            Some(15_090),
            Some(15_090),
        ),
        (
            |pod| {
                pod["spec"]["initContainers"] = json!([{"name": "a", "image": "a", "restartPolicy": "Always", "ports": [{"containerPort": 15_001}]}]);
            },
            Some(15_001),
            None,
        ),
    ];
    for (change, stock, beside) in cases {
        let review = changed(change);
        for (folder, expected) in [("stock", stock), ("app-mesh", beside)] {
            let (_, answer) = admitted(&review, &settings(folder));
            let expected = expected.map(|port| Skipped::Taken {
                what: "port",
                name: port.to_string(),
            });
            assert_eq!(
                answer.skipped, expected,
                "{folder}: {}",
                review["request"]["object"]["spec"]
            );
        }
    }
}

/// A virtual node with listeners on these ports.
struct Listening(Vec<u16>);

impl VirtualNodes for Listening {
    fn selecting(
        &self,
        _: &str,
        _: &BTreeMap<String, String>,
    ) -> Result<VirtualNode, NoVirtualNode> {
        Ok(VirtualNode {
            name: "jazz".to_owned(),
            aws_name: None,
            mesh: "dj-app".to_owned(),
            ports: self.0.clone(),
        })
    }

    fn named(&self, _: &str, _: &str) -> Option<VirtualNode> {
        None
    }
}

/// Ports of a virtual node are the application's; more than can be redirected are said to be that.
#[test]
fn listeners_are_ports_of_the_application() {
    let pod = case("stock/selected")["request"]["object"].clone();
    let skipped = |ports: Vec<u16>| {
        let became = inject(&pod, NAMESPACE, &settings("stock"), &Listening(ports));
        became
            .err()
            .map(|skipped| (skipped.reason(), skipped.to_string()))
    };
    assert_eq!(skipped((8_000..8_015).collect()), None);
    let (reason, text) = skipped((8_000..8_016).collect()).unwrap();
    assert_eq!(reason, "too_many_ports");
    assert!(
        text.starts_with("it has 16 ports to redirect, and at most 15 can be"),
        "{text}"
    );
    assert_eq!(skipped(vec![8_080, 9_901]).unwrap().0, "taken");
}

/// What the controller of App Mesh made of a value is what becomes of it here: (annotations, reason, variables of what redirects).
#[test]
fn values_mean_what_they_meant() {
    const CONTROLLER: &str = "appmesh.k8s.aws/sidecarInjectorWebhook";
    const PORTS: &str = "appmesh.k8s.aws/ports";
    const IPS: &str = "appmesh.k8s.aws/egressIgnoredIPs";
    const IGNORED: &str = "appmesh.k8s.aws/egressIgnoredPorts";
    let twenty: Vec<String> = (8_000..8_020).map(|port: u16| port.to_string()).collect();
    let cases = [
        (json!({CONTROLLER: "disabled"}), Some("not_in_mesh"), None),
        (json!({CONTROLLER: "Disabled"}), Some("not_in_mesh"), None),
        (json!({CONTROLLER: "DISABLED"}), Some("not_in_mesh"), None),
        (
            json!({"meshmeter.io/inject": "Disabled"}),
            Some("disabled"),
            None,
        ),
        (
            json!({"meshmeter.io/inject": "false"}),
            Some("disabled"),
            None,
        ),
        // Neither of the two words: where a virtual node selects the pod.
        (
            json!({CONTROLLER: "false"}),
            None,
            Some(("9080", "169.254.169.254", "22")),
        ),
        (
            json!({CONTROLLER: "Enabled"}),
            None,
            Some(("9080", "169.254.169.254", "22")),
        ),
        (
            json!({CONTROLLER: ""}),
            None,
            Some(("9080", "169.254.169.254", "22")),
        ),
        // An empty list is one without items.
        (
            json!({PORTS: ""}),
            None,
            Some(("0", "169.254.169.254", "22")),
        ),
        (
            json!({PORTS: " , "}),
            None,
            Some(("0", "169.254.169.254", "22")),
        ),
        (json!({IPS: ""}), None, Some(("9080", "", "22"))),
        (
            json!({IGNORED: ""}),
            None,
            Some(("9080", "169.254.169.254", "")),
        ),
        (
            json!({PORTS: "8080, 8443,"}),
            None,
            Some(("8080,8443", "169.254.169.254", "22")),
        ),
        (
            json!({PORTS: "8000:8010"}),
            None,
            Some(("8000:8010", "169.254.169.254", "22")),
        ),
        (json!({PORTS: twenty.join(",")}), Some("annotation"), None),
        (json!({PORTS: "8010:8000"}), Some("annotation"), None),
        // The image that redirects adds 22 to these.
        (
            json!({IGNORED: twenty[..15].join(",")}),
            Some("annotation"),
            None,
        ),
        (
            json!({IGNORED: "443"}),
            None,
            Some(("9080", "169.254.169.254", "443")),
        ),
        (
            json!({"meshmeter.io/virtual-node": "", "meshmeter.io/mesh": ""}),
            None,
            Some(("9080", "169.254.169.254", "22")),
        ),
        (
            json!({"appmesh.k8s.aws/cpuRequest": "", "appmesh.k8s.aws/memoryLimit": ""}),
            None,
            Some(("9080", "169.254.169.254", "22")),
        ),
        (
            json!({"appmesh.k8s.aws/sidecarEnv": "", "appmesh.k8s.aws/volumeMounts": ""}),
            None,
            Some(("9080", "169.254.169.254", "22")),
        ),
    ];
    for (annotations, reason, variables) in cases {
        let mut review = case("stock/selected");
        review["request"]["object"]["metadata"]["annotations"] = annotations.clone();
        let (pod, answer) = admitted(&review, &settings("stock"));
        assert_eq!(
            answer.skipped.as_ref().map(Skipped::reason),
            reason,
            "{annotations}"
        );
        let Some((ports, ips, ignored)) = variables else {
            continue;
        };
        let starting = pod["spec"]["initContainers"].as_array().unwrap();
        let redirect = starting
            .iter()
            .find(|one| one["name"] == UNRESTRICTED)
            .unwrap();
        let env = redirect["env"].as_array().unwrap();
        for (name, expected) in [
            ("APPMESH_APP_PORTS", ports),
            ("APPMESH_EGRESS_IGNORED_IP", ips),
            ("APPMESH_EGRESS_IGNORED_PORTS", ignored),
        ] {
            let variable = env.iter().find(|one| one["name"] == name).unwrap();
            assert_eq!(variable["value"], expected, "{annotations}: {name}");
        }
    }
    // With such a word and no virtual node nobody is told: the controller said nothing either.
    let mut review = case("stock/selected");
    let metadata = &mut review["request"]["object"]["metadata"];
    metadata["annotations"] = json!({CONTROLLER: "false"});
    metadata["labels"] = json!({"app": "none"});
    let (_, answer) = admitted(&review, &settings("stock"));
    assert_eq!(
        answer.skipped.as_ref().map(Skipped::reason),
        Some("not_selected")
    );
    assert_eq!(answer.review["response"]["warnings"], Value::Null);
}

/// Ports that the application declares are redirected once each; too many are not called an annotation.
#[test]
fn declared_ports_are_those_of_the_application() {
    let node = |pod: &mut Value| {
        pod["metadata"]["annotations"] =
            json!({"meshmeter.io/virtual-node": "other", "meshmeter.io/mesh": "m"});
    };
    let redirected = |ports: Value| {
        let mut review = case("stock/selected");
        let pod = &mut review["request"]["object"];
        node(pod);
        pod["spec"]["containers"][0]["ports"] = ports;
        let (pod, answer) = admitted(&review, &settings("stock"));
        let starting = pod["spec"]["initContainers"]
            .as_array()
            .into_iter()
            .flatten();
        let mut env = starting
            .filter(|one| one["name"] == UNRESTRICTED)
            .flat_map(|one| one["env"].as_array().unwrap());
        let ports = env.find(|one| one["name"] == "APPMESH_APP_PORTS");
        let ports = ports.map(|one| one["value"].as_str().unwrap().to_owned());
        (ports, answer.skipped.map(|skipped| skipped.reason()))
    };
    let tcp = |port: u16| json!({"containerPort": port});
    let several = json!([tcp(80), {"containerPort": 53, "protocol": "UDP"}, tcp(80), tcp(8_080)]);
    assert_eq!(redirected(several), (Some("80,8080".to_owned()), None));
    assert_eq!(redirected(json!([])), (Some("0".to_owned()), None));
    let twenty: Vec<Value> = (8_000..8_020).map(tcp).collect();
    assert_eq!(redirected(twenty.into()), (None, Some("too_many_ports")));
}

/// Whoever runs as the sidecar's user is not redirected: the pod is injected, and whoever applies it reads why that is not enough.
#[test]
fn a_bypass_of_the_sidecar_is_said() {
    let cases: [(fn(&mut Value), Option<&str>); 6] = [
        (
            |pod| pod["spec"]["containers"][0]["securityContext"] = json!({"runAsUser": 1_337}),
            Some("jazz"),
        ),
        (
            |pod| pod["spec"]["securityContext"] = json!({"runAsUser": 1_337}),
            Some("jazz"),
        ),
        (
            |pod| {
                pod["spec"]["securityContext"] = json!({"runAsUser": 1_337});
                pod["spec"]["containers"][0]["securityContext"] = json!({"runAsUser": 1_000});
            },
            None,
        ),
        (
            |pod| {
                pod["spec"]["initContainers"] = json!([{"name": "once", "image": "a", "securityContext": {"runAsUser": 1_337}}]);
            },
            None,
        ),
        (
            |pod| {
                pod["spec"]["initContainers"] = json!([{"name": "beside", "image": "a", "restartPolicy": "Always", "securityContext": {"runAsUser": 1_337}}]);
            },
            Some("beside"),
        ),
        (|_| {}, None),
    ];
    for (change, who) in cases {
        let review = changed(change);
        for folder in ["stock", "app-mesh"] {
            let (_, answer) = admitted(&review, &settings(folder));
            assert_eq!(answer.skipped, None);
            let said = answer.bypass.as_ref().map(ToString::to_string);
            assert_eq!(said.is_some(), who.is_some(), "{folder}: {said:?}");
            let warnings = &answer.review["response"]["warnings"];
            match (said, who) {
                (Some(said), Some(who)) => {
                    assert_eq!(*warnings, json!([format!("meshmeter: {said}")]));
                    assert!(
                        said.starts_with(&format!("runs as user 1337, the sidecar's: {who};")),
                        "{said}"
                    );
                }
                _ => assert!(warnings.is_null()),
            }
        }
    }
}

/// Go's nulls are no difference: the patch of a review full of them makes the same pod as the patch of one without.
#[test]
fn nulls_are_absent() {
    let review = |null: bool| {
        let mut review = case("app-mesh/bare");
        let request = &mut review["request"];
        if null {
            for (of, field) in [
                ("/object/metadata", "annotations"),
                ("/object/metadata", "labels"),
                ("/object/metadata", "ownerReferences"),
                ("/object/metadata", "creationTimestamp"),
                ("/object/spec", "initContainers"),
                ("/object/spec", "volumes"),
                ("/object/spec", "nodeSelector"),
                ("/userInfo", "groups"),
                ("/userInfo", "extra"),
                ("", "oldObject"),
                ("", "options"),
                ("", "subResource"),
                ("", "dryRun"),
            ] {
                let at = request.pointer_mut(of).and_then(Value::as_object_mut);
                at.into_iter().for_each(|at| {
                    at.entry(field).or_insert(Value::Null);
                });
            }
        }
        review
    };
    let settings = settings("app-mesh");
    let (mut with, answer) = admitted(&review(true), &settings);
    let (mut without, _) = admitted(&review(false), &settings);
    assert_eq!(answer.skipped, None);
    checks::without_nulls(&mut with);
    checks::without_nulls(&mut without);
    assert_eq!(with, without);
    for (at, value) in [
        ("/request/object/spec/containers", Value::Null),
        ("/request/object", Value::Null),
    ] {
        let mut review = review(true);
        *review.pointer_mut(at).unwrap() = value;
        let answer = review::answer(review.to_string().as_bytes(), &settings, &Unknown).unwrap();
        assert_eq!(answer.review["response"]["allowed"], true, "{at}");
        assert!(matches!(answer.skipped, Some(Skipped::NoPod(_))), "{at}");
    }
}
