//! Everything renders, and every manifest is what an API server would take: unknown fields and
//! kinds are failures.
#![expect(clippy::unwrap_used, reason = "in a test any surprise is a failure")]

use std::collections::BTreeSet;

use serde_json::Value;
use tests_deploy::{find, folders, list, read, render, render_text, text};
use tests_manifests::Object;

/// What the components of remote write leave to the overlay.
const REMOTE_WRITE: &str = "configMapGenerator:
- name: meshmeter-remote-write
  namespace: meshmeter
  literals: [url=http://prometheus-operated.monitoring.svc:9090/api/v1/write, cluster=test]
";

/// Two objects of one name would be one in a cluster.
fn are_distinct(objects: &[Object], what: &str) {
    let mut seen = BTreeSet::new();
    for object in objects {
        let key = (
            &object.api_version,
            &object.kind,
            &object.namespace,
            &object.name,
        );
        assert!(seen.insert(key), "{what}: twice {key:?}");
    }
}

/// Every overlay renders, strictly, to distinct objects of namespaces that are meant.
#[test]
fn every_overlay_renders() {
    let overlays = folders("deploy/kustomize/overlays").unwrap();
    assert!(overlays.len() >= 4, "{overlays:?}");
    for overlay in overlays {
        let objects = render(&format!("deploy/kustomize/overlays/{overlay}")).unwrap();
        are_distinct(&objects, &overlay);
        find(&objects, "StatefulSet", "meshmeter").unwrap();
        for object in &objects {
            let namespace = object.namespace.as_deref();
            let meant = [None, Some("meshmeter"), Some("kube-system")];
            assert!(meant.contains(&namespace), "{overlay}: {object:?}");
        }
    }
    let meshed = render("deploy/kustomize/meshed-namespace").unwrap();
    assert_eq!(meshed.len(), 2);
}

/// Every component renders over the base by itself, and all that do not exclude one another
/// together.
#[test]
fn every_component_renders() {
    let components = folders("deploy/kustomize/components").unwrap();
    let kustomization = |components: &[&String]| {
        let components: Vec<String> = components
            .iter()
            .map(|component| format!("- ../components/{component}"))
            .collect();
        format!(
            "resources: [../base]\ncomponents:\n{}\n{REMOTE_WRITE}",
            components.join("\n")
        )
    };
    for component in &components {
        let objects = render_text(&kustomization(&[component])).unwrap();
        are_distinct(&objects, component);
    }
    // A part of others; another way to the same; the opposite.
    let apart = [
        "remote-write-queue",
        "ingest-tls",
        "remote-write",
        "remote-write-sums",
        "own-secret",
        "no-api",
    ];
    let together: Vec<&String> = components
        .iter()
        .filter(|name| !apart.contains(&name.as_str()))
        .collect();
    let objects = render_text(&kustomization(&together)).unwrap();
    are_distinct(&objects, "all together");
}

/// The three ways to a certificate: never without verification, and RBAC for what each needs only.
#[test]
fn certificates_are_always_verified() {
    let with = |component: &str| {
        let kustomization = format!("resources: [../base]\ncomponents: [{component}]\n");
        render_text(&kustomization).unwrap()
    };
    let base = render("deploy/kustomize/base").unwrap();
    let managed = with("../components/cert-manager");
    let own = with("../components/own-secret");
    for (objects, way) in [
        (&base, "base"),
        (&managed, "cert-manager"),
        (&own, "own-secret"),
    ] {
        let services: Vec<&Object> = objects
            .iter()
            .filter(|object| object.kind == "APIService")
            .collect();
        assert_eq!(services.len(), 3, "{way}");
        for service in services {
            assert!(
                service.value["spec"]["insecureSkipTLSVerify"].is_null(),
                "{way}"
            );
            let injected =
                &service.value["metadata"]["annotations"]["cert-manager.io/inject-ca-from"];
            let expected = (way == "cert-manager").then_some("meshmeter/meshmeter-api");
            assert_eq!(injected.as_str(), expected, "{way}");
        }
        let registers = find(objects, "ClusterRole", "meshmeter:registration").is_ok();
        assert_eq!(registers, way == "base", "{way}");
    }
    // What cert-manager writes is what the aggregator reads, for the names that kube-apiserver asks
    // for.
    let certificate = &find(&managed, "Certificate", "meshmeter-api")
        .unwrap()
        .value["spec"];
    let set = &find(&managed, "StatefulSet", "meshmeter").unwrap().value;
    let volumes = list(&set["spec"]["template"]["spec"]["volumes"]);
    assert_eq!(
        volumes[0]["secret"]["secretName"],
        certificate["secretName"]
    );
    let names = list(&certificate["dnsNames"]);
    assert!(
        names.contains(&"meshmeter-api.meshmeter.svc".into()),
        "{names:?}"
    );
}

/// The door that a fleet moves through differs from the closed one by a single variable of the
/// aggregator.
#[test]
fn a_permissive_port_has_all_that_a_closed_one_has() {
    let with = |component: &str| {
        render_text(&format!(
            "resources: [../base]\ncomponents: [../components/injector, ../components/{component}]\n"
        ))
        .unwrap()
    };
    let closed = with("ingest-tls");
    let mut permissive = with("ingest-tls-permissive");
    let mode = serde_json::json!({"name": "MESHMETER_INGEST_TLS_MODE", "value": "permissive"});
    let set = permissive
        .iter_mut()
        .find(|object| object.kind == "StatefulSet");
    let containers = &mut set.unwrap().value["spec"]["template"]["spec"]["containers"];
    let variables = containers[0]["env"].as_array_mut().unwrap();
    let all = variables.len();
    variables.retain(|variable| *variable != mode);
    assert_eq!(variables.len(), all - 1);
    let values = |objects: &[Object]| -> Vec<Value> {
        objects.iter().map(|object| object.value.clone()).collect()
    };
    assert_eq!(values(&permissive), values(&closed));
}

/// `no-api` registers nothing and leaves the rest.
#[test]
fn the_api_can_be_left_to_another() {
    let objects = render("deploy/kustomize/overlays/standalone-prometheus").unwrap();
    assert!(objects.iter().all(|object| object.kind != "APIService"));
}

/// Images have the workspace's version; what the injector gives pods is its own image, also under a
/// new name in an overlay such as the one of the README.
#[test]
fn images_agree() {
    let objects = render("deploy/kustomize/overlays/app-mesh").unwrap();
    let ours = |image: &str| {
        format!(
            "registry.example.com/meshmeter/{image}:{}",
            env!("CARGO_PKG_VERSION")
        )
    };
    let mut seen = 0;
    for template in tests_deploy::pods::templates(&objects) {
        for container in template.containers() {
            let image = text(&container["image"]);
            assert!(
                [ours("aggregator"), ours("mesh")].contains(&image.to_owned()),
                "{image}"
            );
            seen += 1;
        }
    }
    assert_eq!(seen, 3);
    assert_eq!(injected(&objects), ours("mesh"));

    let readme = read("deploy/README.md").unwrap();
    let overlay = readme.split("```yaml\n").nth(1).unwrap();
    let overlay = overlay.split("```").next().unwrap();
    let overlay = overlay.replace("meshmeter/deploy/kustomize/", "../");
    let objects = render_text(&overlay).unwrap();
    let image = text(&container(&objects, "Deployment", "meshmeter-injector")["image"]);
    assert!(!image.starts_with("registry.example.com"), "{image}");
    assert_eq!(injected(&objects), image);
}

fn container<'a>(objects: &'a [Object], kind: &str, name: &str) -> &'a Value {
    &find(objects, kind, name).unwrap().value["spec"]["template"]["spec"]["containers"][0]
}

fn injected(objects: &[Object]) -> String {
    let container = container(objects, "Deployment", "meshmeter-injector");
    let variables = tests_deploy::pods::variables(container, objects).unwrap();
    variables["MESHMETER_IMAGE"].clone()
}
