//! What is refused, by name, and what is served beside it.

use mesh_control_plane::mesh::Meshes;

use crate::{DJAPP, parse, route, snapshot, weights, with};

const REFUSED_LISTENERS: [(&str, &str); 5] = [
    (
        "{portMapping: {port: 1, protocol: http}, tls: {mode: STRICT}}",
        "spec.listeners[0].tls: missing field `certificate`",
    ),
    (
        "{portMapping: {port: 1, protocol: http}, tls: {mode: STRICT, certificate: {sds: {secretName: x}}, alpn: []}}",
        "spec.listeners[0].tls.alpn is not served",
    ),
    (
        "{portMapping: {port: 1, protocol: udp}}",
        "spec.listeners[0].portMapping.protocol: unknown variant `udp`",
    ),
    (
        "{portMapping: {port: 1, protocol: http}, outlierDetection: {}}",
        "spec.listeners[0].outlierDetection: missing field `maxServerErrors`",
    ),
    (
        "{portMapping: {port: 1, protocol: http}}, {portMapping: {port: 1, protocol: http2}}",
        "spec.listeners[1].portMapping.port: 1 is there twice",
    ),
];

const REFUSED: [(&str, &str, &str); 6] = [
    (
        "VirtualGateway",
        "{listeners: [{portMapping: {port: 1, protocol: http}, tls: {mode: STRICT}}]}",
        "spec.listeners[0].tls: missing field `certificate`",
    ),
    (
        "VirtualService",
        "{provider: {virtualNode: {virtualNodeRef: {name: nobody}}}}",
        "nobody",
    ),
    ("VirtualService", "{}", "spec.provider"),
    (
        "VirtualService",
        "{awsName: \"*\", provider: {virtualNode: {virtualNodeRef: {name: dj}}}}",
        "spec.awsName: \"*\" is not a host name",
    ),
    (
        "VirtualRouter",
        "{listeners: [], routes: [{name: r, httpRoute: {match: {prefix: /, cookies: []}, action: {weightedTargets: []}}}]}",
        "spec.routes[0].httpRoute.match.cookies is not served",
    ),
    (
        "VirtualRouter",
        "{meshRef: {name: folk}, routes: []}",
        "spec.meshRef: there is no Mesh folk",
    ),
];

/// What is not served is refused by name, and the rest is served.
#[test]
fn nothing_is_ignored() {
    let nodes = REFUSED_LISTENERS.map(|(listeners, why)| {
        let spec = format!("{{listeners: [{listeners}]}}");
        ("VirtualNode", spec, why)
    });
    let others = REFUSED.map(|(kind, spec, why)| (kind, spec.to_owned(), why));
    for (kind, spec, why) in nodes.into_iter().chain(others) {
        let (mesh, refused) = parse(&with(kind, &spec));
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert_eq!(refused[0].what, format!("{kind} prod/x"));
        assert!(refused[0].why.contains(why), "{}", refused[0]);
        assert_eq!(weights(&snapshot(&mesh, "dj")).len(), 2);
    }
    // What is nothing of App Mesh is left alone, and what is no YAML is refused by its file.
    let files = [
        ("a.yaml", "kind: Deployment\napiVersion: apps/v1\n"),
        ("b.yaml", "{"),
    ];
    let (_, refused) = Meshes::parse(files, &Meshes::default());
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].what, "b.yaml");
}

/// What refers to nothing, and what Envoy would reject as a whole.
#[test]
fn what_leads_nowhere_is_refused() {
    for (text, what, why) in [
        (
            DJAPP.replace(
                "name: jazz-v2\n              weight",
                "name: jazz-v3\n              weight",
            ),
            "VirtualRouter prod/jazz-router",
            "no VirtualNode jazz-v3",
        ),
        (
            DJAPP
                .replace("weight: 95", "weight: 0")
                .replace("weight: 5\n", "weight: 0\n"),
            "VirtualRouter prod/jazz-router",
            "add up to 0",
        ),
        (
            format!(
                "{DJAPP}---\napiVersion: appmesh.k8s.aws/v1beta2\nkind: VirtualService\nmetadata: {{name: zz, namespace: prod}}\nspec: {{awsName: jazz.prod.svc.cluster.local, provider: {{virtualNode: {{virtualNodeRef: {{name: dj}}}}}}}}\n"
            ),
            "VirtualService prod/zz",
            "is taken",
        ),
        (
            DJAPP.replace(
                "virtualServiceRef:\n          name: jazz",
                "virtualServiceRef:\n          name: folk",
            ),
            "VirtualNode prod/dj",
            "no VirtualService folk",
        ),
    ] {
        let (_, refused) = parse(&text);
        let first = &refused[0];
        assert_eq!(first.what, what, "{refused:?}");
        assert!(first.why.contains(why), "{first}");
    }
}

/// A slip takes no traffic down: what was served before is served on, and the refusal says what is
/// wrong.
#[test]
fn a_slip_changes_nothing() {
    let (before, _) = parse(DJAPP);
    for slip in [
        DJAPP.replace("prefix: /", "prefix: /\n          cookies: []"),
        DJAPP.replace(
            "name: jazz-v2\n              weight",
            "name: jazz-v3\n              weight",
        ),
        DJAPP.replace("awsName: jazz.prod.svc.cluster.local", "awsName: jazz prod"),
        DJAPP.replace("protocol: http\n", "protocol: udp\n"),
        DJAPP.replacen("namespaceSelector:", "namespaces:", 1),
    ] {
        assert_ne!(slip, DJAPP);
        let (after, refused) = Meshes::parse([("djapp.yaml", slip.as_str())], &before);
        assert!(!refused.is_empty());
        assert_eq!(snapshot(&after, "dj"), snapshot(&before, "dj"));
    }
    // A backend that is not there costs nothing else: the node is served, and the log may not say
    // otherwise.
    let missing = DJAPP.replace(
        "virtualServiceRef:\n          name: jazz",
        "virtualServiceRef:\n          name: folk",
    );
    let (after, refused) = parse(&missing);
    let (kind, key) = refused[0].object.clone().unwrap();
    assert!(refused[0].why.contains("it is left out"), "{refused:?}");
    assert!(after.serves(kind, &key));
    // What is gone is gone.
    let without = DJAPP.replace(
        "metadata:\n  name: jazz-router\n",
        "metadata:\n  name: another\n",
    );
    let (after, refused) = Meshes::parse([("djapp.yaml", without.as_str())], &before);
    assert_eq!(refused[0].what, "VirtualService prod/jazz");
    assert_eq!(
        route(&snapshot(&after, "dj"), "rds_egress_http_9080")
            .virtual_hosts
            .len(),
        1
    );
}
