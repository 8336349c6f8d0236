//! Pods in, pods out. Each `tests/pods/SETTINGS/CASE.review.json` is what kube-apiserver sends;
//! `CASE.yaml` beside it is what becomes of the pod. `MESHMETER_REGENERATE=1 cargo test -p
//! mesh-injector` writes the latter anew, to be read before it is kept.
#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use mesh_injector::annotations::{ENV, MOUNTS};
use mesh_injector::manifest::{Unchanged, inject_all};
use mesh_injector::pod::{INJECTED, inject};
use mesh_injector::review::{self, ReviewOutcome};
use mesh_injector::settings::{Modules, Secure, Settings, Stock};
use mesh_injector::skipped::{NoVirtualNode, Skipped};
use mesh_injector::virtual_node::{Unknown, VirtualGateway, VirtualNode, VirtualNodes};
use serde_json::{Value, json};

mod annotations;
mod bypass;
mod checks;
mod ports;
mod reviews;

const REGENERATE: &str = "MESHMETER_REGENERATE";
const NAMESPACE: &str = "prod";
/// Changes the pod's network, which the profile `restricted` does not allow.
const UNRESTRICTED: &str = "meshmeter-redirect";

/// The settings that a folder of cases is named after.
fn settings(folder: &str) -> Settings {
    let mut settings = Settings {
        image: "registry.example.com/meshmeter/mesh:1.2.3".to_owned(),
        upstream: "http://meshmeter-control-plane.meshmeter.svc.cluster.local:18000".to_owned(),
        aggregators: [0, 1]
            .map(|nth| format!("meshmeter-{nth}.meshmeter-ingest.meshmeter.svc.cluster.local:7470"))
            .into(),
        secure: None,
        modules: Modules::Copied,
        stock: None,
        events: false,
        xds_proxy_args: Vec::new(),
        version: "1.2.3".to_owned(),
    };
    match folder {
        "app-mesh" => {}
        "image-volume" => settings.modules = Modules::ImageVolume,
        "secured" => {
            settings.events = true;
            settings.xds_proxy_args = vec!["--direction=both".to_owned()];
            settings.secure = Some(Secure {
                ca: "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n".to_owned(),
                config_map: None,
                server_name: Some("meshmeter-ingest.meshmeter.svc".to_owned()),
                audience: Some("meshmeter".to_owned()),
            });
        }
        "followed" => {
            settings.secure = Some(Secure {
                ca: "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n".to_owned(),
                config_map: Some("meshmeter-ca".to_owned()),
                server_name: None,
                audience: Some("meshmeter".to_owned()),
            });
        }
        "stock" | "spire" => {
            let sds_socket =
                (folder == "spire").then(|| "/run/spire/sockets/agent.sock".to_owned());
            settings.stock = Some(Stock {
                image: "registry.example.com/envoy:v1.36".to_owned(),
                redirect_image: "registry.example.com/proxy-route-manager:v7".to_owned(),
                mesh: Some("dj-app".to_owned()),
                sds_socket,
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
            Some("jazz" | "jazz-gw") => self.named(namespace, "jazz-v1").ok_or(NoVirtualNode::None),
            Some("both") => {
                let names = ["metal-v1", "metal-v2"].map(str::to_owned);
                Err(NoVirtualNode::Several(names.into()))
            }
            _ => Err(NoVirtualNode::None),
        }
    }

    fn named(&self, namespace: &str, name: &str) -> Option<VirtualNode> {
        let secrets = match name {
            "jazz-v1" => Vec::new(),
            "soul" => vec![(
                "soul-tls".to_owned(),
                "/etc/meshmeter-acm/soul-tls".to_owned(),
            )],
            _ => return None,
        };
        (namespace == NAMESPACE).then(|| VirtualNode {
            aws_name: None,
            name: name.to_owned(),
            mesh: "dj-app".to_owned(),
            ports: vec![9_080],
            secrets,
        })
    }

    fn gateway(
        &self,
        namespace: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<Option<VirtualGateway>, NoVirtualNode> {
        let app = labels.get("app").map(String::as_str);
        let is_selected = namespace == NAMESPACE && matches!(app, Some("ingress-gw" | "jazz-gw"));
        Ok(is_selected.then(|| VirtualGateway {
            name: "ingress-gw".to_owned(),
            node_id: "mesh/dj-app/virtualGateway/ingress-gw_prod".to_owned(),
            ports: vec![8_088],
            secrets: vec![(
                "soul-tls".to_owned(),
                "/etc/meshmeter-acm/soul-tls".to_owned(),
            )],
        }))
    }
}

/// What kube-apiserver makes of the answer.
fn admitted(review: &Value, settings: &Settings) -> (Value, ReviewOutcome) {
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

/// What is new in a pod: annotations and lists whole, with what was there before by its name alone.
/// The rest is as it was.
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

/// A replica of v0.1.0 injected the pod, and today's is called again for it, or gets it from a
/// manifest: it is not injected twice, and its annotations are completed.
#[test]
fn pods_of_v0_1_0_are_not_injected_again() {
    let settings = settings("app-mesh");
    let mut review = case("app-mesh/generate-name");
    let mut old = admitted(&review, &settings).0;
    let xds_proxy = &mut old["spec"]["initContainers"][1];
    assert_eq!(xds_proxy["name"], "meshmeter-xds-proxy");
    xds_proxy["name"] = "meshmeter-interposer".into();
    review["request"]["object"] = old.clone();
    let (same, answer) = admitted(&review, &settings);
    assert_eq!((same, answer.skipped), (old.clone(), Some(Skipped::Done)));
    let annotations = &mut review["request"]["object"]["metadata"]["annotations"];
    annotations.as_object_mut().unwrap().remove(ENV);
    assert_eq!(admitted(&review, &settings).0, old);
}

/// A CA that changes is that of the next pod.
#[test]
fn settings_may_be_swapped() {
    let review = case("secured/generate-name");
    let mut settings = settings("secured");
    let before = admitted(&review, &settings).0;
    settings.secure.as_mut().unwrap().ca = "another".to_owned();
    let after = admitted(&review, &settings).0;
    let difference = json_patch::diff(&before, &after).to_string();
    assert!(difference.contains("another"), "{difference}");
    assert_eq!(json_patch::diff(&before, &after).0.len(), 1, "{difference}");
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
    let unchanged = outcomes.into_iter().map(|outcome| outcome.unchanged);
    let unchanged: Vec<_> = unchanged.collect();
    assert_eq!(unchanged, [None, None, Some(Unchanged::NoPods), None]);
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
