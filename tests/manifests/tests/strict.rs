//! What is in order passes, and every kind of slip is found and named.

use tests_manifests::check;

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: meshmeter-ingest, namespace: meshmeter}
spec: {clusterIP: None, ports: [{name: grpc, port: 7470}]}
";

const RULE: &str = "
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata: {name: meshmeter}
spec: {groups: [{name: meshmeter, rules: [{alert: Down, expr: up == 0, for: 5m, labels: {severity: page}}]}]}
";

#[track_caller]
fn refused(text: &str, why: &str) {
    let error = check(text).expect_err("it is accepted");
    let said = format!("{error:#}");
    assert!(said.contains(why), "{said}");
}

#[test]
fn objects_in_order_pass() {
    let objects = check(&format!("# Two.\n{SERVICE}---\n{RULE}---\n# None.\n")).unwrap();
    let names = objects.iter().map(|object| {
        let namespace = object.namespace.as_deref();
        (object.kind.as_str(), namespace, object.name.as_str())
    });
    let expected = [
        ("Service", Some("meshmeter"), "meshmeter-ingest"),
        ("PrometheusRule", None, "meshmeter"),
    ];
    assert!(names.eq(expected));
}

#[test]
fn unknown_fields_are_named() {
    refused(
        &SERVICE.replace("port: 7470", "port: 7470, protcol: TCP"),
        "document 1, Service meshmeter-ingest: unknown fields: spec.ports.0.protcol",
    );
    refused(&RULE.replace("for:", "fro:"), "'fro' was unexpected");
    refused(
        &RULE.replace("{name: meshmeter}", "{name: meshmeter, lables: {}}"),
        "metadata: unknown fields: lables",
    );
}

#[test]
fn wrong_types_are_named() {
    refused(&SERVICE.replace("7470", "grpc"), "invalid type");
    refused(
        &RULE.replace("up == 0", "[1]"),
        "/spec/groups/0/rules/0/expr",
    );
    refused(
        &RULE.replace("expr: up == 0, ", ""),
        "\"expr\" is a required",
    );
}

#[test]
fn what_nobody_knows_is_refused() {
    let why = "is known neither as a built-in kind nor by a schema";
    refused(&SERVICE.replace("kind: Service", "kind: Servcie"), why);
    refused(&RULE.replace("/v1\n", "/v7\n"), why);
    refused(&SERVICE.replace("apiVersion: v1\n", ""), "no apiVersion");
    refused(
        &SERVICE.replace("name: meshmeter-ingest, ", ""),
        "no metadata.name",
    );
}

#[test]
fn doubled_keys_are_refused() {
    refused(
        &SERVICE.replace("clusterIP: None,", "clusterIP: None, clusterIP: None,"),
        "duplicate",
    );
}

/// Each schema is one: it accepts no object without a spec, and none with a field nobody heard of.
#[test]
fn every_schema_is_strict() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas");
    let mut schemas = 0;
    for group in std::fs::read_dir(folder).unwrap() {
        let group = group.unwrap();
        if !group.file_type().unwrap().is_dir() {
            continue;
        }
        for file in std::fs::read_dir(group.path()).unwrap() {
            let file = file.unwrap().file_name().into_string().unwrap();
            let group = group.file_name().into_string().unwrap();
            let mut parts = file.split('.');
            let (kind, version) = (parts.next().unwrap(), parts.next().unwrap());
            let head =
                format!("apiVersion: {group}/{version}\nkind: {kind}\nmetadata: {{name: a}}\n");
            refused(&head, "\"spec\" is a required");
            refused(
                &format!("{head}spec: {{nobodyHeardOf: 1}}\n"),
                "nobodyHeardOf",
            );
            refused(&format!("{head}spec: {{}}\nextra: 1\n"), "extra");
            schemas += 1;
        }
    }
    assert_eq!(schemas, 24);
}
