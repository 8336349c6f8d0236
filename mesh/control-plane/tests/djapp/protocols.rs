//! Listeners and routes of all protocols, and references by ARN and group.

use mesh_control_plane::envoy::{CLUSTER, LISTENER, ROUTE};

use crate::taken::said;
use crate::{DJAPP, mesh, names, parse, snapshot, with};

fn arn(mesh: &str, kind: &str, name: &str) -> String {
    format!("\"arn:aws:appmesh:us-west-2:111122223333:mesh/{mesh}/{kind}/{name}\"")
}

/// What Envoy would reject or never use is refused by its field.
#[test]
fn values_of_listeners_are_checked() {
    let check =
        "healthyThreshold: 2, unhealthyThreshold: 2, intervalMillis: 5000, timeoutMillis: 2000";
    let outliers = |interval: u64, percent: u32| {
        format!(
            "outlierDetection: {{maxServerErrors: 1, interval: {{unit: s, value: {interval}}}, baseEjectionDuration: {{unit: s, value: 1}}, maxEjectionPercent: {percent}}}"
        )
    };
    for (protocol, rest, why) in [
        (
            "http",
            "connectionPool: {tcp: {maxConnections: 1}}".to_owned(),
            "connectionPool.tcp: the listener has the protocol http",
        ),
        (
            "tcp",
            "connectionPool: {tcp: {maxConnections: 0}}".to_owned(),
            "connectionPool.tcp: 0 lets nothing through",
        ),
        (
            "grpc",
            "timeout: {http: {idle: {unit: s, value: 1}}}".to_owned(),
            "timeout.http: the listener has the protocol grpc",
        ),
        (
            "tcp",
            "timeout: {tcp: {idle: {unit: s, value: 90000}}}".to_owned(),
            "timeout.tcp.idle: 90000000 ms are more than a day, 86400000 ms",
        ),
        (
            "tcp",
            format!("healthCheck: {{protocol: grpc, {check}}}"),
            "healthCheck.protocol: grpc needs a listener of grpc or http2, not tcp",
        ),
        (
            "http",
            outliers(0, 50),
            "outlierDetection.interval: 0 is no time",
        ),
        (
            "http",
            outliers(1, 101),
            "outlierDetection.maxEjectionPercent: 101 is more than 100",
        ),
    ] {
        let spec =
            format!("{{listeners: [{{portMapping: {{port: 1, protocol: {protocol}}}, {rest}}}]}}");
        assert_eq!(
            said("VirtualNode", &spec),
            format!("spec.listeners[0].{why}")
        );
    }
}

#[test]
fn logs_are_checked() {
    for (log, why) in [
        (
            "path: access.log",
            "path: \"access.log\" is not an absolute path",
        ),
        (
            "path: /dev/stdout, format: {text: \"%WHO%\"}",
            "format.text: \"WHO\" is not a command operator that is served; a percent sign is %%",
        ),
        (
            "path: /dev/stdout, format: {json: [{key: a, value: x}, {key: a, value: z}]}",
            "format.json: the key a is there twice",
        ),
    ] {
        let spec = format!("{{logging: {{accessLog: {{file: {{{log}}}}}}}}}");
        let why = format!("spec.logging.accessLog.file.{why}");
        assert_eq!(said("VirtualNode", &spec), why);
    }
}

#[test]
fn matches_are_checked() {
    let headers = |header: &str| format!("httpRoute: {{match: {{prefix: /, headers: [{header}]}}");
    for (protocol, route, why) in [
        (
            "http",
            "httpRoute: {match: {}".to_owned(),
            "match: one of prefix and path is needed",
        ),
        (
            "http",
            "httpRoute: {match: {prefix: /, path: {exact: /}}".to_owned(),
            "match: one of prefix and path is needed",
        ),
        (
            "http",
            "httpRoute: {match: {prefix: /, port: 2}".to_owned(),
            "httpRoute: none of spec.listeners has the protocol http on match.port 2",
        ),
        (
            "http",
            headers("{name: a, match: {range: {start: 2, end: 2}}}"),
            "match.headers: a: range: nothing is from 2 to below 2",
        ),
        (
            "http",
            headers("{name: \"a b\"}"),
            "match.headers: \"a b\" is not the name of a header",
        ),
        (
            "http",
            headers("{name: a, match: {regex: \"a**\"}}"),
            "match.headers: a: regex: \"a**\": Envoy's RE2 does not know a repetition of nothing, or of a repetition without parentheses",
        ),
        (
            "grpc",
            "grpcRoute: {match: {methodName: Add}".to_owned(),
            "match.methodName: match.serviceName is needed with it",
        ),
    ] {
        let spec = format!(
            "{{listeners: [{{portMapping: {{port: 1, protocol: {protocol}}}}}], routes: [{{name: r, {route}, action: {{weightedTargets: [{{virtualNodeRef: {{name: dj}}, weight: 1}}]}}}}}}]}}"
        );
        let said = said("VirtualRouter", &spec);
        // With a port that no listener has, the listener is the first to have no route.
        let of_listener =
            "spec.listeners[0].portMapping.protocol: http, and none of spec.routes has httpRoute";
        assert!(
            said == format!("route r: {why}") || said == of_listener,
            "{said}"
        );
    }
}

/// An ARN leads to the object of the mesh that has the name in it.
#[test]
fn arns_lead_to_names() {
    let by_name = "virtualServiceRef:\n          name: jazz\n";
    let plain = snapshot(&mesh(DJAPP), "dj");
    let backend = |arn: &str| DJAPP.replacen(by_name, &format!("virtualServiceARN: {arn}\n"), 1);
    let jazz = "jazz.prod.svc.cluster.local";
    for owner in ["dj-app", "dj-app@444455556666"] {
        let text = backend(&arn(owner, "virtualService", jazz));
        assert_eq!(snapshot(&mesh(&text), "dj"), plain);
    }
    for (bad, why) in [
        (
            arn("other", "virtualService", jazz),
            "there is no VirtualService arn:",
        ),
        (
            arn("dj-app", "virtualService", "nobody"),
            "there is no VirtualService arn:",
        ),
        (
            arn("dj-app", "virtualNode", "dj_prod"),
            "is not a virtualService",
        ),
        (
            "jazz".to_owned(),
            "\"jazz\" is not arn:aws:appmesh:REGION:ACCOUNT:mesh/MESH/KIND/NAME",
        ),
    ] {
        let (_, refused) = parse(&backend(&bad));
        assert!(refused[0].why.contains(why), "{refused:?}");
    }
}

/// A group stands for its services, `*` for all of the namespace.
#[test]
fn groups_are_backends() {
    let group = |text: &str| {
        let node = "---\napiVersion: appmesh.k8s.aws/v1beta2\nkind: VirtualNode\nmetadata: {name: caller, namespace: prod}\n";
        format!(
            "{}{node}spec: {{backendGroups: [{text}]}}\n",
            with("BackendGroup", "{virtualservices: [{name: jazz}]}")
        )
    };
    for (groups, clusters) in [
        ("{name: x}", 2),
        ("{name: \"*\"}", 3),
        ("{name: x}, {name: \"*\"}", 3),
    ] {
        let snapshot = snapshot(&mesh(&group(groups)), "caller");
        let names = names(&snapshot, CLUSTER);
        let called = names.iter().filter(|name| name.contains("_http_")).count();
        assert_eq!(called, clusters, "{groups}: {names:?}");
    }
    let (_, refused) = parse(&group("{name: nobody}"));
    assert_eq!(
        refused[0].to_string(),
        "VirtualNode prod/caller: spec.backendGroups: there is no BackendGroup nobody in the mesh; it is left out"
    );
}

/// Bytes have no host in them: HTTP keeps its port, and of two services of TCP the first has one.
#[test]
fn a_port_of_tcp_has_one_service() {
    let services = ["a", "b"].map(|name| {
        format!(
            "---\napiVersion: appmesh.k8s.aws/v1beta2\nkind: VirtualService\nmetadata: {{name: {name}, namespace: prod}}\nspec: {{provider: {{virtualNode: {{virtualNodeRef: {{name: x}}}}}}}}\n"
        )
    });
    let called = |port: u16| {
        let spec = format!(
            "{{listeners: [{{portMapping: {{port: {port}, protocol: tcp}}}}], serviceDiscovery: {{dns: {{hostname: x.prod}}}}}}"
        );
        let node = "---\napiVersion: appmesh.k8s.aws/v1beta2\nkind: VirtualNode\nmetadata: {name: caller, namespace: prod}\nspec: {backends: [{virtualService: {virtualServiceRef: {name: jazz}}}, {virtualService: {virtualServiceRef: {name: a}}}, {virtualService: {virtualServiceRef: {name: b}}}]}\n";
        format!("{}{}{node}", with("VirtualNode", &spec), services.concat())
    };
    for (port, left_out) in [(5432, &["b"][..]), (9080, &["a", "b"])] {
        let (meshes, refused) = parse(&called(port));
        let whys: Vec<_> = refused.iter().map(ToString::to_string).collect();
        let expected: Vec<_> = left_out
            .iter()
            .map(|name| format!("VirtualNode prod/caller: spec.backends: connections to the VirtualService {name} by TCP cannot be told from those to another backend on port {port}; it is left out"))
            .collect();
        assert_eq!(whys, expected);
        let snapshot = snapshot(&meshes, "caller");
        assert_eq!(names(&snapshot, ROUTE), ["rds_egress_http_9080"]);
        assert_eq!(names(&snapshot, LISTENER), ["lds_egress_0.0.0.0_15001"]);
        let cluster = format!("cds_egress_dj-app_x_prod_tcp_{port}");
        assert_eq!(
            names(&snapshot, CLUSTER).contains(&cluster.as_str()),
            port == 5432
        );
    }
}
