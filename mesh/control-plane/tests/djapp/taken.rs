//! What Envoy would reject as a whole is refused before, by its field, and so is what would be
//! served as nothing.

use mesh_control_plane::mesh::RefusedObject;

use crate::{DJAPP, parse, snapshot, weights, with, without_of};

/// What is said of `x`, and nothing of others; they are served.
pub(crate) fn said(kind: &str, spec: &str) -> String {
    let (mesh, refused) = parse(&with(kind, spec));
    let [only] = &refused[..] else {
        panic!("{spec}: {refused:?}");
    };
    assert_eq!(only.what, format!("{kind} prod/x"));
    assert_eq!(weights(&snapshot(&mesh, "dj")).len(), 2);
    only.why.clone()
}

const HTTP: &str = "{portMapping: {port: 1, protocol: http}}";
const HTTP2: &str = "{portMapping: {port: 2, protocol: http2}}";

fn action(field: &str, rest: &str) -> String {
    format!(
        "{{name: r, {field}: {{match: {{prefix: /}}, action: {{weightedTargets: [{{virtualNodeRef: {{name: dj}}, weight: 1}}]}}{rest}}}}}"
    )
}

/// A router whose listeners and routes do not go together would have hosts without a route, or
/// routes without a host.
#[test]
fn routers_need_a_route_for_each_listener() {
    let http = action("httpRoute", "");
    for (listeners, routes, why) in [
        ("", http.as_str(), "spec.listeners: at least one is needed"),
        (HTTP, "", "spec.routes: at least one is needed"),
        (
            HTTP2,
            &http,
            "spec.listeners[0].portMapping.protocol: http2, and none of spec.routes has http2Route",
        ),
        (
            HTTP,
            &format!("{http}, {}", action("http2Route", "")),
            "route r: http2Route: none of spec.listeners has the protocol http2",
        ),
    ] {
        let spec = format!("{{listeners: [{listeners}], routes: [{routes}]}}");
        assert_eq!(said("VirtualRouter", &spec), why);
    }
    let both = format!(
        "{{listeners: [{HTTP}, {HTTP2}], routes: [{http}, {}]}}",
        action("http2Route", "")
    );
    assert_eq!(parse(&with("VirtualRouter", &both)).1, []);
    let none = format!("{{listeners: [{HTTP}]}}");
    assert_eq!(
        said("VirtualRouter", &none),
        "spec.routes: at least one is needed"
    );
}

#[test]
fn a_service_needs_a_workload_that_listens() {
    let deaf = DJAPP.replacen(
        "  listeners:\n    - portMapping:\n        port: 9080\n        protocol: http\n      healthCheck:\n        protocol: http\n        path: /ping\n        healthyThreshold: 2\n        unhealthyThreshold: 2\n        timeoutMillis: 2000\n        intervalMillis: 5000\n",
        "",
        1,
    );
    let service = "---\napiVersion: appmesh.k8s.aws/v1beta2\nkind: VirtualService\nmetadata: {name: x, namespace: prod}\nspec: {provider: {virtualNode: {virtualNodeRef: {name: dj}}}}\n";
    let (_, refused) = parse(&format!("{deaf}{service}"));
    let [only] = &refused[..] else {
        panic!("{refused:?}");
    };
    assert_eq!(
        only.to_string(),
        "VirtualService prod/x: spec.provider.virtualNode: the VirtualNode dj has no spec.listeners"
    );
}

/// Envoy compares names of hosts without regard to case.
#[test]
fn names_that_differ_in_case_are_one() {
    let spec = "{awsName: Jazz.prod.SVC.cluster.local, provider: {virtualNode: {virtualNodeRef: {name: dj}}}}";
    assert_eq!(
        said("VirtualService", spec),
        "the name jazz.prod.svc.cluster.local is taken by prod/jazz"
    );
}

#[test]
fn times_are_at_most_a_day() {
    let day = "86400000 ms";
    let much = "{unit: s, value: 18446744073709551615}";
    let said_much = "18446744073709551615 ms";
    for (rest, field, value) in [
        (
            format!(", retryPolicy: {{maxRetries: 1, perRetryTimeout: {much}}}"),
            "retryPolicy.perRetryTimeout",
            said_much,
        ),
        (
            ", timeout: {perRequest: {unit: ms, value: 86400001}}".to_owned(),
            "timeout.perRequest",
            "86400001 ms",
        ),
        (
            format!(", timeout: {{idle: {much}}}"),
            "timeout.idle",
            said_much,
        ),
    ] {
        let route = action("httpRoute", &rest);
        let spec = format!("{{listeners: [{HTTP}], routes: [{route}]}}");
        let why = format!("route r: {field}: {value} are more than a day, {day}");
        assert_eq!(said("VirtualRouter", &spec), why);
    }
    let idle = format!("timeout: {{http: {{idle: {much}}}}}");
    let check = |interval: &str, timeout: &str| {
        format!(
            "healthCheck: {{protocol: http, healthyThreshold: 1, unhealthyThreshold: 1, intervalMillis: {interval}, timeoutMillis: {timeout}}}"
        )
    };
    for (rest, field) in [
        (idle, "timeout.http.idle"),
        (
            check("18446744073709551615", "1"),
            "healthCheck.intervalMillis",
        ),
        (
            check("1", "18446744073709551615"),
            "healthCheck.timeoutMillis",
        ),
    ] {
        let spec = format!("{{listeners: [{{portMapping: {{port: 1, protocol: http}}, {rest}}}]}}");
        let why = format!("spec.listeners[0].{field}: {said_much} are more than a day, {day}");
        assert_eq!(said("VirtualNode", &spec), why);
    }
    // Short ones are as good as they were, and so is a whole day.
    let route = action(
        "httpRoute",
        ", timeout: {perRequest: {unit: s, value: 86400}, idle: {unit: ms, value: 1}}",
    );
    let spec = format!("{{listeners: [{HTTP}], routes: [{route}]}}");
    assert_eq!(parse(&with("VirtualRouter", &spec)).1, []);
}

#[test]
fn paths_are_paths() {
    for (path, why) in [
        (r"ping", r#""ping" does not begin with /"#),
        (r"", r#""" does not begin with /"#),
        (r"/ping\n", r#""/ping\n" is not a path"#),
        (r"/p\0", r#""/p\0" is not a path"#),
        (r"/p p", r#""/p p" is not a path"#),
    ] {
        let check = format!(
            "{{protocol: http, path: \"{path}\", healthyThreshold: 2, unhealthyThreshold: 2, intervalMillis: 100, timeoutMillis: 50}}"
        );
        let node = format!(
            "{{listeners: [{{portMapping: {{port: 1, protocol: http}}, healthCheck: {check}}}]}}"
        );
        assert_eq!(
            said("VirtualNode", &node),
            format!("spec.listeners[0].healthCheck.path: {why}")
        );
        let route = action("httpRoute", "").replace("prefix: /", &format!("prefix: \"{path}\""));
        let router = format!("{{listeners: [{HTTP}], routes: [{route}]}}");
        assert_eq!(
            said("VirtualRouter", &router),
            format!("route r: match.prefix: {why}")
        );
    }
}

const MESH_OWNER: &str = "spec.meshOwner is not served: a mesh that another AWS account shares was known to Amazon's control plane alone: remove the field, and apply the mesh's resources to this cluster";

/// Objects of a refused Mesh get a message with its name.
#[test]
fn a_refused_mesh_is_told_to_its_objects() {
    let whys = |refused: &[RefusedObject]| {
        let mut whys: Vec<_> = refused.iter().map(|one| one.why.clone()).collect();
        whys.sort();
        whys.dedup();
        whys
    };
    let slip = DJAPP.replacen(
        "namespaceSelector:",
        "meshOwner: \"1\"\n  namespaceSelector:",
        1,
    );
    let (_, refused) = parse(&slip);
    assert_eq!(refused.len(), 10);
    assert_eq!(
        whys(&refused),
        [
            "no Mesh that is served selects the namespace prod: the Mesh dj-app is refused itself",
            MESH_OWNER,
        ]
    );
    let named = slip.replace(
        "kind: VirtualRouter\nmetadata:\n  name: jazz-router\n  namespace: prod\nspec:\n",
        "kind: VirtualRouter\nmetadata:\n  name: jazz-router\n  namespace: prod\nspec:\n  meshRef: {name: dj-app}\n",
    );
    let (_, refused) = parse(&named);
    assert!(whys(&refused).contains(&"spec.meshRef: the Mesh dj-app is refused itself".to_owned()));
    let none = without_of(DJAPP, "Mesh", "dj-app");
    let (_, refused) = parse(&none);
    assert_eq!(
        whys(&refused),
        [
            "no Mesh selects the namespace prod (spec.namespaceSelector), and there is no spec.meshRef"
        ]
    );
}
