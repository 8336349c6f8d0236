//! Virtual gateways and their routes: what is refused, and what requests may match.

use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::{Route, RouteConfiguration};
use mesh_control_plane::envoy::{CLUSTER, LISTENER, Ports, ROUTE, Snapshot};
use mesh_control_plane::mesh::{Meshes, RefusedObject};
use prost::Message as _;

use crate::taken::said;
use crate::{DJAPP, mesh, names, parse};

const TO: &str = "target: {virtualService: {virtualServiceRef: {name: jazz}}}";

fn gateway(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: appmesh.k8s.aws/v1beta2\nkind: VirtualGateway\nmetadata: {{name: {name}, namespace: prod}}\nspec: {{namespaceSelector: {{}}, {spec}}}\n"
    )
}

fn one_gateway() -> String {
    gateway(
        "in",
        "listeners: [{portMapping: {port: 8088, protocol: http}}]",
    )
}

/// A route `name` with this `httpRoute`.
fn http(name: &str, rest: &str) -> String {
    format!(
        "---\napiVersion: appmesh.k8s.aws/v1beta2\nkind: GatewayRoute\nmetadata: {{name: {name}, namespace: prod}}\nspec: {{{rest}}}\n"
    )
}

fn matching(name: &str, matched: &str) -> String {
    http(
        name,
        &format!("httpRoute: {{match: {{{matched}}}, action: {{{TO}}}}}"),
    )
}

fn snapshot(meshes: &Meshes) -> Snapshot {
    let gateway = meshes.gateway_of("mesh/dj-app/virtualGateway/in_prod");
    Snapshot::of_gateway(&gateway.unwrap(), &Ports::default())
}

fn ingress(meshes: &Meshes) -> RouteConfiguration {
    let snapshot = snapshot(meshes);
    let route = &snapshot.resources[ROUTE]["rds_ingress_http_8088"];
    RouteConfiguration::decode(&route.value[..]).unwrap()
}

/// What a path becomes by the rewrite of a route, as Envoy would apply it.
fn rewritten(route: &Route, path: &str) -> String {
    let Some(Action::Route(action)) = &route.action else {
        panic!("no route: {route:?}");
    };
    let Some(rewrite) = &action.regex_rewrite else {
        return path.to_owned();
    };
    let pattern = &rewrite.pattern.as_ref().unwrap().regex;
    let literal = pattern.trim_start_matches('^').replace('\\', "");
    if literal == ".*$" {
        return rewrite.substitution.clone();
    }
    let prefix = literal.strip_suffix("/?").unwrap_or(&literal);
    let rest = path.strip_prefix(prefix).unwrap();
    let rest = if prefix == literal {
        rest
    } else {
        rest.strip_prefix('/').unwrap_or(rest)
    };
    format!("{}{rest}", rewrite.substitution)
}

#[test]
fn names_are_those_of_app_mesh() {
    let listeners = "listeners: [{portMapping: {port: 8088, protocol: http}}, {portMapping: {port: 8089, protocol: http}}]";
    let text = format!(
        "{DJAPP}{}{}",
        gateway("in", listeners),
        matching("a", "prefix: /")
    );
    let snapshot = snapshot(&mesh(&text));
    assert_eq!(
        names(&snapshot, LISTENER),
        [
            "lds_egress_0.0.0.0_15001",
            "lds_ingress_0.0.0.0_8088",
            "lds_ingress_0.0.0.0_8089"
        ]
    );
    assert_eq!(
        names(&snapshot, CLUSTER),
        [
            "cds_egress_dj-app_jazz-v1_prod_http_9080",
            "cds_egress_dj-app_jazz-v2_prod_http_9080",
            "cds_ingress_dj-app_in_prod_self_redirect_http_15001",
            "cds_ingress_dj-app_in_prod_self_redirect_http_8089",
        ]
    );
    assert_eq!(
        names(&snapshot, ROUTE),
        [
            "rds_egress_http_15001",
            "rds_ingress_http_8088",
            "rds_ingress_http_8089"
        ]
    );
}

/// (what is written, path, what the application gets).
#[test]
fn paths_are_rewritten_as_app_mesh_did() {
    for (matched, rewrite, path, expected) in [
        ("prefix: /", "", "/a/b", "/a/b"),
        ("prefix: /chapter", "", "/chapter/page", "/page"),
        ("prefix: /chapter", "", "/chapter1", "/1"),
        ("prefix: /chapter", "", "/chapter", "/"),
        ("prefix: /chapter/", "", "/chapter/page", "/page"),
        (
            "prefix: /a.b",
            "{prefix: {defaultPrefix: ENABLED}}",
            "/a.b/c",
            "/c",
        ),
        (
            "prefix: /chapter",
            "{prefix: {defaultPrefix: DISABLED}}",
            "/chapter/page",
            "/chapter/page",
        ),
        (
            "prefix: /test/",
            "{prefix: {value: /red/}}",
            "/test/tell",
            "/red/tell",
        ),
        (
            "prefix: /test",
            "{prefix: {value: /red/}}",
            "/test/tell",
            "/red/tell",
        ),
        (
            "hostname: {exact: a.b}",
            "{prefix: {value: /red/}}",
            "/tell",
            "/red/tell",
        ),
        ("hostname: {exact: a.b}", "", "/tell", "/tell"),
        ("path: {exact: /a}", "", "/a", "/a"),
        ("path: {exact: /a}", "{path: {exact: /b}}", "/a", "/b"),
        ("path: {regex: '/a.*'}", "{path: {exact: /b}}", "/ac", "/b"),
        ("prefix: /a", "{path: {exact: /b}}", "/ac", "/b"),
    ] {
        let rewrite = if rewrite.is_empty() { "{}" } else { rewrite };
        let route =
            format!("httpRoute: {{match: {{{matched}}}, action: {{{TO}, rewrite: {rewrite}}}}}");
        let text = format!("{DJAPP}{}{}", one_gateway(), http("r", &route));
        let routes = ingress(&mesh(&text));
        let hosts = &routes.virtual_hosts;
        let route = hosts.iter().find_map(|host| host.routes.first()).unwrap();
        assert_eq!(rewritten(route, path), expected, "{matched} {rewrite}");
    }
}

/// By priority, then the more specific first; and in the virtual host of a name are all routes that
/// requests to it may match.
#[test]
fn routes_are_tried_in_their_order() {
    let priority = |name: &str, priority: u32, matched: &str| {
        let route = format!(
            "httpRoute: {{match: {{{matched}}}, action: {{{TO}, rewrite: {{path: {{exact: /{name}}}}}}}}}"
        );
        http(name, &format!("priority: {priority}, {route}"))
    };
    let all = [
        priority("a-all", 1000, "prefix: /"),
        priority("b-long", 1000, "prefix: /paths"),
        priority("c-exact", 1000, "path: {exact: /x}"),
        priority("d-first", 0, "prefix: /"),
        priority("e-method", 1000, "prefix: /, method: GET"),
        priority("f-suffix", 1000, "hostname: {suffix: .example.com}"),
        priority("g-host", 1000, "hostname: {exact: Shop.example.com}"),
        priority("h-other", 1000, "hostname: {exact: shop.example.org}"),
    ];
    let text = format!("{DJAPP}{}{}", one_gateway(), all.concat());
    let routes = ingress(&mesh(&text));
    assert!(routes.ignore_port_in_host_matching);
    let hosts = routes.virtual_hosts.iter().map(|host| {
        let names = host.routes.iter().map(|route| {
            let path = rewritten(route, "/");
            path[1..2].to_owned()
        });
        (host.domains.join(","), names.collect::<String>())
    });
    let mut hosts: Vec<_> = hosts.collect();
    hosts.sort();
    let expected = [
        ("*", "dcbea"),
        ("*.example.com", "dfcbea"),
        (".example.com", "dfcbea"),
        ("shop.example.com", "dgfcbea"),
        ("shop.example.org", "dhcbea"),
    ];
    let expected = expected.map(|(host, routes)| (host.to_owned(), routes.to_owned()));
    assert_eq!(hosts, expected);
}

/// Each is refused by its field, and everything else is served.
#[test]
fn gateways_are_refused_by_field() {
    for (spec, why) in [
        (
            "{listeners: [{portMapping: {port: 0, protocol: http}}]}",
            "spec.listeners[0].portMapping.port: 0 is no port",
        ),
        (
            "{listeners: [{portMapping: {port: 15001, protocol: http}}]}",
            "spec.listeners[0].portMapping.port: 15001 is the gateway's own: take another",
        ),
        (
            "{listeners: [{portMapping: {port: 1, protocol: http}}, {portMapping: {port: 1, protocol: grpc}}]}",
            "spec.listeners[1].portMapping.port: 1 is there twice",
        ),
        (
            "{listeners: [{portMapping: {port: 1, protocol: tcp}}]}",
            "spec.listeners[0].portMapping.protocol: a gateway has http, http2 and grpc, not tcp",
        ),
        (
            "{listeners: [{portMapping: {port: 1, protocol: http}, connectionPool: {grpc: {maxRequests: 1}}}]}",
            "spec.listeners[0].connectionPool.grpc: the listener has the protocol http",
        ),
        (
            "{logging: {accessLog: {file: {path: log}}}}",
            "spec.logging.accessLog.file.path: \"log\" is not an absolute path",
        ),
    ] {
        assert_eq!(said("VirtualGateway", spec), why);
    }
}

/// Specification with `TO` for the target, and what is said of it.
const REFUSED_ROUTES: [(&str, &str); 20] = [
    (
        "priority: 1",
        "exactly one of spec.httpRoute, spec.http2Route and spec.grpcRoute is needed",
    ),
    (
        "priority: 1001, httpRoute: {match: {prefix: /}, action: {TO}}",
        "spec.priority: 1001 is more than 1000",
    ),
    (
        "httpRoute: {match: {method: GET}, action: {TO}}",
        "spec.httpRoute.match: one of prefix, path and hostname is needed",
    ),
    (
        "httpRoute: {match: {prefix: a}, action: {TO}}",
        "spec.httpRoute.match.prefix: \"a\" does not begin with /",
    ),
    (
        "httpRoute: {match: {prefix: /, path: {exact: /}}, action: {TO}}",
        "spec.httpRoute.match: one of prefix and path is needed",
    ),
    (
        "httpRoute: {match: {hostname: {exact: 'a:1'}}, action: {TO}}",
        "spec.httpRoute.match.hostname.exact: \"a:1\" is not a host name",
    ),
    (
        "httpRoute: {match: {hostname: {suffix: '*.a'}}, action: {TO}}",
        "spec.httpRoute.match.hostname.suffix: \"*.a\" is not a host name",
    ),
    (
        "httpRoute: {match: {prefix: /}, action: {TO, rewrite: {prefix: {value: /a}}}}",
        "spec.httpRoute.action.rewrite.prefix.value: \"/a\" does not end with /",
    ),
    (
        "httpRoute: {match: {prefix: /}, action: {TO, rewrite: {prefix: {value: a/}}}}",
        "spec.httpRoute.action.rewrite.prefix.value: \"a/\" does not begin with /",
    ),
    (
        "httpRoute: {match: {prefix: /}, action: {TO, rewrite: {prefix: {value: /, defaultPrefix: DISABLED}}}}",
        "spec.httpRoute.action.rewrite.prefix: defaultPrefix and value exclude each other",
    ),
    (
        "httpRoute: {match: {prefix: /}, action: {TO, rewrite: {prefix: {}}}}",
        "spec.httpRoute.action.rewrite.prefix: one of defaultPrefix and value is needed",
    ),
    (
        "httpRoute: {match: {path: {exact: /a}}, action: {TO, rewrite: {prefix: {value: /}}}}",
        "spec.httpRoute.action.rewrite.prefix: match.path has no prefix; take action.rewrite.path",
    ),
    (
        "httpRoute: {match: {prefix: /}, action: {TO, rewrite: {prefix: {value: /}, path: {exact: /}}}}",
        "spec.httpRoute.action.rewrite: prefix and path exclude each other",
    ),
    (
        "httpRoute: {match: {prefix: /}, action: {TO, rewrite: {path: {exact: '/a?b'}}}}",
        "spec.httpRoute.action.rewrite.path.exact: \"/a?b\" is not a path of at most 255 bytes without a query",
    ),
    (
        "httpRoute: {match: {prefix: /, port: 1}, action: {TO}}",
        "spec.httpRoute: no listener of the VirtualGateway in has the protocol http on match.port 1",
    ),
    (
        "grpcRoute: {match: {metadata: [{name: a}]}, action: {TO}}",
        "spec.grpcRoute.match: one of serviceName and hostname is needed",
    ),
    (
        "grpcRoute: {match: {serviceName: a}, action: {TO}}",
        "spec.grpcRoute: no listener of the VirtualGateway in has the protocol grpc",
    ),
    (
        "virtualGatewayRef: {name: out}, httpRoute: {match: {prefix: /}, action: {TO}}",
        "there is no VirtualGateway out in the mesh",
    ),
    (
        "httpRoute: {match: {prefix: /}, action: {target: {virtualService: {virtualServiceRef: {name: folk}}}}}",
        "spec.httpRoute: there is no VirtualService folk in the mesh; the route answers 503",
    ),
    (
        "httpRoute: {match: {prefix: /}, action: {target: {virtualService: {virtualServiceRef: {name: jazz}}, port: 1}}}",
        "spec.httpRoute: the VirtualService jazz has no port 1 for HTTP; the route answers 503",
    ),
];

#[test]
fn routes_are_refused_by_field() {
    for (spec, why) in REFUSED_ROUTES {
        let spec = spec.replace("TO", TO);
        let text = format!("{DJAPP}{}{}", one_gateway(), http("x", &spec));
        let said = ("GatewayRoute prod/x".to_owned(), why.to_owned());
        assert_eq!(only(&parse(&text).1), said);
    }
}

fn only(refused: &[RefusedObject]) -> (String, String) {
    let [one] = refused else {
        panic!("{refused:?}");
    };
    (one.what.clone(), one.why.clone())
}

/// A route is of the gateway that selects it; of none or two it is said, and a reference decides.
#[test]
fn a_route_is_of_one_gateway() {
    let route = matching("x", "prefix: /");
    let (_, refused) = parse(&format!("{DJAPP}{route}"));
    assert!(
        only(&refused)
            .1
            .contains("no VirtualGateway selects the route")
    );
    let listeners = "listeners: [{portMapping: {port: 8088, protocol: http}}]";
    let two = [gateway("in", listeners), gateway("out", listeners)].concat();
    let (_, refused) = parse(&format!("{DJAPP}{two}{route}"));
    assert!(
        only(&refused)
            .1
            .contains("VirtualGateway prod/in and VirtualGateway prod/out")
    );
    let named = route.replace("spec: {", "spec: {virtualGatewayRef: {name: in}, ");
    let meshes = mesh(&format!("{DJAPP}{two}{named}"));
    assert_eq!(ingress(&meshes).virtual_hosts[0].routes.len(), 1);
    let by_label = format!("gatewayRouteSelector: {{matchLabels: {{edge: 'yes'}}}}, {listeners}");
    let labelled = route.replace(
        "namespace: prod}",
        "namespace: prod, labels: {edge: 'yes'}}",
    );
    let one = gateway("in", &by_label);
    assert_eq!(
        ingress(&mesh(&format!("{DJAPP}{one}{labelled}"))).virtual_hosts[0]
            .routes
            .len(),
        1
    );
    assert_eq!(parse(&format!("{DJAPP}{one}{route}")).1.len(), 1);
}

/// A slip takes no traffic down: the earlier form is served, and a route that never had a service
/// answers 503 instead of leaving its requests to another.
#[test]
fn earlier_forms_are_kept() {
    let text = |route: &str| format!("{DJAPP}{}{route}", one_gateway());
    let good = text(&matching("x", "prefix: /good"));
    let (before, refused) = parse(&good);
    assert_eq!(refused, []);
    for (bad, why) in [
        (matching("x", "prefix: bad"), "does not begin with /"),
        (
            matching("x", "prefix: /bad").replace("name: jazz", "name: folk"),
            "served as it was",
        ),
        (matching("x", "prefx: /bad"), "match.prefx is not served"),
    ] {
        let (after, refused) = Meshes::parse([("a.yaml", &*text(&bad))], &before);
        assert!(refused[0].why.contains(why), "{refused:?}");
        assert_eq!(ingress(&after), ingress(&before), "{bad}");
    }
    let never = matching("x", "prefix: /never").replace("name: jazz", "name: folk");
    let (after, _) = parse(&text(&never));
    let action = ingress(&after).virtual_hosts[0].routes[0].action.clone();
    let Some(Action::DirectResponse(answer)) = action else {
        panic!("{action:?}");
    };
    assert_eq!(answer.status, 503);
}

/// Routes without an exact host are in each virtual host: their number is bounded.
#[test]
fn virtual_hosts_are_bounded() {
    use std::fmt::Write as _;
    let mut routes = String::new();
    for nth in 0..150 {
        let _ = write!(
            routes,
            "{}",
            matching(&format!("any-{nth:03}"), &format!("prefix: /{nth}/"))
        );
        let host = format!("hostname: {{exact: host-{nth}.example.com}}");
        let _ = write!(routes, "{}", matching(&format!("host-{nth:03}"), &host));
    }
    let (meshes, refused) = parse(&format!("{DJAPP}{}{routes}", one_gateway()));
    assert!(!refused.is_empty());
    assert!(
        refused
            .iter()
            .all(|one| one.why.contains("more than 20000 routes")),
        "{refused:?}"
    );
    let entries = ingress(&meshes);
    let entries: usize = entries
        .virtual_hosts
        .iter()
        .map(|host| host.routes.len())
        .sum();
    assert!((10_000..=20_000).contains(&entries), "{entries}");
}
