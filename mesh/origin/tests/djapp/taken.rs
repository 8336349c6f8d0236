//! What Envoy would reject as a whole is refused before, by its field, and so is what would be served as nothing.

use crate::{DJAPP, parse, snapshot, weights, with};

/// What is said of `x`, and nothing of others; they are served.
fn said(kind: &str, spec: &str) -> String {
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

/// A router whose listeners and routes do not go together would have hosts without a route, or routes without a host.
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
