//! `NetworkPolicies` let through what the programs need and nothing else: each overlay and
//! component as it is shipped, alone and with others.
#![expect(clippy::unwrap_used, reason = "in a test any surprise is a failure")]

use std::collections::BTreeMap;

use tests_deploy::policies::{Connection, End, Labels, Pod, Policies};
use tests_deploy::{connections, folders, render_text};
use tests_manifests::Object;

/// What the components of remote write leave to the overlay, for a receiver in the cluster and for
/// AMP.
const IN_CLUSTER: &str = "configMapGenerator:
- name: meshmeter-remote-write
  namespace: meshmeter
  literals: [url=http://prometheus-operated.monitoring.svc:9090/api/v1/write]
";
const AMP: &str = "configMapGenerator:
- name: meshmeter-remote-write
  namespace: meshmeter
  literals: [url=https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-0/api/v1/remote_write, cluster=test]
";

fn rendered(resource: &str, components: &[&str], rest: &str) -> Vec<Object> {
    let components: Vec<String> = components
        .iter()
        .map(|one| format!("../components/{one}"))
        .collect();
    let components = components.join(", ");
    render_text(&format!(
        "resources: [../{resource}]\ncomponents: [{components}]\n{rest}"
    ))
    .unwrap()
}

/// Every connection of the programs fares as it should in every installation that the README
/// describes.
#[test]
fn installations_are_open_where_they_have_to_be() {
    let mut faults = Vec::new();
    let mut check = |what: &str, objects: &[Object]| {
        for fault in connections::faults(objects).unwrap() {
            faults.push(format!("{what}: {fault}"));
        }
    };
    let overlays = folders("deploy/kustomize/overlays").unwrap();
    for overlay in &overlays {
        for with in [&[][..], &["network-policies", "self-test"]] {
            let objects = rendered(&format!("overlays/{overlay}"), with, "");
            check(&format!("{overlay} + {with:?}"), &objects);
        }
    }
    for component in folders("deploy/kustomize/components").unwrap() {
        let component = component.as_str();
        let rest = match component {
            "remote-write" | "remote-write-sums" => IN_CLUSTER,
            "remote-write-amp" => AMP,
            _ => "",
        };
        for with in [&[component][..], &[component, "network-policies"]] {
            if with != ["network-policies", "network-policies"] {
                check(&format!("base + {with:?}"), &rendered("base", with, rest));
            }
        }
    }
    for (components, rest) in [
        (&["remote-write-amp", "aws-irsa"][..], AMP),
        (&["remote-write-amp", "aws-pod-identity"], AMP),
        (
            &["inject-envoy", "ingest-tls-permissive", "cert-manager"],
            "",
        ),
        (&["ingest-tls", "own-secret", "remote-write"], IN_CLUSTER),
    ] {
        for policies in [&[][..], &["network-policies"]] {
            let with = [components, policies].concat();
            let objects = rendered("overlays/app-mesh", &with, rest);
            check(&format!("app-mesh + {with:?}"), &objects);
        }
    }
    assert!(faults.is_empty(), "{}\n{}", faults.len(), faults.join("\n"));
}

/// The table is about what is installed: with everything, every row of it applies.
#[test]
fn every_row_is_held_against_something() {
    let with = ["network-policies", "self-test"];
    let everything = rendered("overlays/app-mesh-amp", &with, "");
    assert_eq!(connections::rows(&everything).unwrap(), 61);
    assert!(connections::rows(&rendered("base", &[], "")).unwrap() > 20);
}

/// Policies of a namespace, one in each row: (spec, from, to, port, is it let through). `a` and `b`
/// are pods of the namespace `one`, `c` of `two`, `world` is 203.0.113.7.
const SEMANTICS: [(&str, &str, &str, u16, bool); 30] = [
    // No policy selects a pod: open. A policy of one direction leaves the other as it is.
    ("{podSelector: {matchLabels: {app: c}}}", "b", "a", 80, true),
    ("{podSelector: {}}", "c", "a", 80, false),
    ("{podSelector: {}}", "a", "c", 80, true),
    (
        "{podSelector: {}, policyTypes: [Egress]}",
        "c",
        "a",
        80,
        true,
    ),
    (
        "{podSelector: {}, policyTypes: [Egress]}",
        "a",
        "c",
        80,
        false,
    ),
    // Without types: ingress always, egress where there are rules for it.
    ("{podSelector: {}, egress: [{}]}", "c", "a", 80, false),
    ("{podSelector: {}, egress: [{}]}", "a", "c", 80, true),
    (
        "{podSelector: {}, egress: [{ports: [{port: 81}]}]}",
        "a",
        "c",
        80,
        false,
    ),
    ("{podSelector: {}, egress: []}", "a", "c", 80, true),
    // Rules of a direction that the types leave out say nothing.
    (
        "{podSelector: {}, policyTypes: [Egress], ingress: [{}]}",
        "a",
        "c",
        80,
        false,
    ),
    ("{podSelector: {}, ingress: [{}]}", "world", "a", 80, true),
    // Peers.
    (
        "{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}",
        "b",
        "a",
        80,
        true,
    ),
    (
        "{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}",
        "c",
        "a",
        80,
        false,
    ),
    (
        "{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]}",
        "c",
        "a",
        80,
        true,
    ),
    (
        "{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]}",
        "world",
        "a",
        80,
        false,
    ),
    (
        "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: two}}, podSelector: {matchLabels: {app: b}}}]}]}",
        "c",
        "a",
        80,
        false,
    ),
    (
        "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: two}}}, {podSelector: {matchLabels: {app: b}}}]}]}",
        "c",
        "a",
        80,
        true,
    ),
    (
        "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: team, operator: Exists}]}}]}]}",
        "c",
        "a",
        80,
        false,
    ),
    (
        "{podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [a]}]}}",
        "c",
        "a",
        80,
        true,
    ),
    (
        "{podSelector: {matchExpressions: [{key: app, operator: In, values: [a]}]}}",
        "c",
        "a",
        80,
        false,
    ),
    // Ranges of addresses.
    (
        "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 203.0.113.0/24}}]}]}",
        "world",
        "a",
        80,
        true,
    ),
    (
        "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 203.0.113.0/24, except: [203.0.113.4/30]}}]}]}",
        "world",
        "a",
        80,
        false,
    ),
    (
        "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: '::/0'}}]}]}",
        "world",
        "a",
        80,
        false,
    ),
    // Ports: numbers, ranges, names of the pod that listens, protocols.
    (
        "{podSelector: {}, ingress: [{ports: [{port: 80}]}]}",
        "c",
        "a",
        81,
        false,
    ),
    (
        "{podSelector: {}, ingress: [{ports: [{port: 80, endPort: 90}]}]}",
        "c",
        "a",
        90,
        true,
    ),
    (
        "{podSelector: {}, ingress: [{ports: [{port: web}]}]}",
        "c",
        "a",
        80,
        true,
    ),
    (
        "{podSelector: {}, ingress: [{ports: [{port: web}]}]}",
        "c",
        "a",
        81,
        false,
    ),
    (
        "{podSelector: {}, ingress: [{ports: [{port: 80, protocol: UDP}]}]}",
        "c",
        "a",
        80,
        false,
    ),
    (
        "{podSelector: {}, ingress: [{ports: [{protocol: TCP}]}]}",
        "c",
        "a",
        12,
        true,
    ),
    // The kubelet of a pod's node always gets in.
    ("{podSelector: {}}", "node", "a", 80, true),
];

/// The evaluator says what the API's documentation says.
#[test]
fn policies_mean_what_kubernetes_says() {
    let pod = |namespace: &str, app: &str| {
        End::Pod(Pod {
            namespace: namespace.to_owned(),
            labels: Labels::from([("app".to_owned(), app.to_owned())]),
            ports: BTreeMap::from([(("web".to_owned(), "TCP".to_owned()), 80)]),
            address: None,
        })
    };
    let end = |name: &str| match name {
        "world" => End::Address("203.0.113.7".parse().unwrap()),
        "node" => End::OwnNode,
        "c" => pod("two", "c"),
        other => pod("one", other),
    };
    for (spec, from, to, port, expected) in SEMANTICS {
        let manifest = format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p, namespace: one}}\nspec: {spec}\n"
        );
        let mut policies = Policies::read(&tests_manifests::check(&manifest).unwrap()).unwrap();
        for namespace in ["one", "two"] {
            policies.set_namespace(namespace, Labels::new());
        }
        let connection = Connection {
            from: end(from),
            to: end(to),
            protocol: "TCP",
            port,
        };
        let refusal = policies.refusal(&connection).unwrap();
        assert_eq!(
            refusal.is_none(),
            expected,
            "{spec}: {from} -> {to} {port}: {refusal:?}"
        );
    }
}
