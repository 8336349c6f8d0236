//! `NetworkPolicies` let through what the programs need and nothing else, in every usual case and
//! with every choice.

use std::collections::BTreeMap;

use tests_deploy::connections;
use tests_deploy::helm::{chart, example, examples};
use tests_deploy::policies::{Connection, End, Labels, Pod, Policies};
use tests_manifests::Object;

const CLOSED: &str = "networkPolicies: {enabled: true}";
/// Choices that open or need a connection, or close one: values over the defaults.
const CHOICES: [&str; 14] = [
    "",
    "mesh: none",
    "appMesh: {injectEnvoy: true}\ningest: {tls: permissive, identity: token}",
    "appMesh: {controlPlane: other, upstream: 'https://mesh.example'}",
    "ingest: {tls: required}",
    "api: {custom: false, external: false}",
    "api: {certificate: {source: cert-manager}}",
    "api: {certificate: {source: secret, ca: '-----BEGIN CERTIFICATE-----'}}",
    "remoteWrite: {receiver: other, url: 'http://prometheus-operated.monitoring.svc:9090/api/v1/write'}",
    "remoteWrite: {receiver: other, output: sums, url: 'http://prometheus-operated.monitoring.svc:9090/api/v1/write'}",
    "remoteWrite: {receiver: amp, AMP, cluster: a, aws: {credentials: irsa, roleArn: 'arn:aws:iam::111122223333:role/a'}}",
    "remoteWrite: {receiver: amp, AMP, cluster: a, aws: {credentials: pod-identity}}",
    "remoteWrite: {receiver: amp, AMP, output: sums, aws: {credentials: pod-identity}}",
    "flowControl: {enabled: false}",
];
const AMP: &str =
    "url: 'https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-0/api/v1/remote_write'";

/// Every connection of the programs fares as it should in every usual case and with every choice,
/// with policies and without.
#[test]
fn installations_are_open_where_they_have_to_be() {
    let mut faults = Vec::new();
    let mut check = |what: &str, objects: &[Object]| {
        for fault in connections::faults(objects).unwrap() {
            faults.push(format!("{what}: {fault}"));
        }
    };
    for name in examples().unwrap() {
        for values in ["", CLOSED] {
            let what = format!("{name} + {values}");
            check(&what, &example(&name, values).unwrap());
        }
    }
    for choice in CHOICES {
        for more in ["", CLOSED] {
            let values = format!("{}\n{more}", choice.replace("AMP", AMP));
            check(&values, &chart(&values).unwrap());
        }
    }
    assert!(faults.is_empty(), "{}\n{}", faults.len(), faults.join("\n"));
}

/// The table is about what is installed: with everything, every row of it applies.
#[test]
fn every_row_is_held_against_something() {
    let everything = example("app-mesh-amp", CLOSED).unwrap();
    assert_eq!(connections::rows(&everything).unwrap(), 61);
    assert!(connections::rows(&chart("mesh: none").unwrap()).unwrap() > 20);
}

/// A policy is only of what is installed.
#[test]
fn policies_select_what_is_there() {
    for (mesh, expected) in [("app-mesh", 5), ("plain", 3)] {
        let objects = chart(&format!("mesh: {mesh}\n{CLOSED}")).unwrap();
        let policies = objects
            .iter()
            .filter(|object| object.kind == "NetworkPolicy");
        assert_eq!(policies.count(), expected, "{mesh}");
    }
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
