//! Alerts, their tests and runbooks, dashboards, and the policies of AWS.
#![expect(clippy::unwrap_used, reason = "in a test any surprise is a failure")]

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;
use tests_deploy::helm::{Helm, Release, chart};
use tests_deploy::{find, list, read, root, text};
use tests_support::artifacts;

fn rules() -> Vec<Value> {
    let text = read("deploy/chart/alerts/meshmeter.rules.yaml").unwrap();
    let groups = tests_manifests::documents(&text).unwrap();
    let groups = list(&groups[0]["groups"]).iter();
    groups
        .flat_map(|group| list(&group["rules"]))
        .cloned()
        .collect()
}

/// promtool takes the rules and its tests of them pass; in those every alert fires at least once
/// and is silent at least once.
#[test]
fn every_alert_fires_and_is_silent() {
    let promtool = artifacts::promtool().unwrap();
    for arguments in [
        ["check", "rules", "meshmeter.rules.yaml"],
        ["test", "rules", "meshmeter.test.yaml"],
    ] {
        let output = Command::new(&promtool)
            .args(arguments)
            .current_dir(root().join("deploy/chart/alerts"))
            .output()
            .unwrap();
        let said =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }
    let tests =
        tests_manifests::documents(&read("deploy/chart/alerts/meshmeter.test.yaml").unwrap())
            .unwrap();
    let (mut fires, mut silent) = (BTreeSet::new(), BTreeSet::new());
    for test in list(&tests[0]["tests"]) {
        for case in list(&test["alert_rule_test"]) {
            let name = text(&case["alertname"]).to_owned();
            let expected = list(&case["exp_alerts"]);
            let set = if expected.is_empty() {
                &mut silent
            } else {
                &mut fires
            };
            set.insert(name);
        }
    }
    let alerts: BTreeSet<String> = rules()
        .iter()
        .map(|rule| text(&rule["alert"]).to_owned())
        .collect();
    assert_eq!(fires, alerts);
    assert_eq!(silent, alerts);
}

/// Each alert has a severity, a summary, its row in the list, and a runbook that is there.
#[test]
fn every_alert_has_a_runbook() {
    let runbook = read("docs/OPERATIONS.md").unwrap();
    let headings: BTreeSet<&str> = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .collect();
    let notes = read("deploy/chart/alerts/README.md").unwrap();
    for rule in rules() {
        let name = text(&rule["alert"]);
        let annotations = &rule["annotations"];
        let severity = text(&rule["labels"]["severity"]);
        assert!(
            ["critical", "warning", "info"].contains(&severity),
            "{name}"
        );
        assert!(!text(&annotations["summary"]).is_empty(), "{name}");
        assert!(
            notes.contains(&format!("\n| {name} | {severity} |")),
            "{name}: not in the list, or otherwise"
        );
        assert!(notes.contains(&format!("\n### {name}\n")), "{name}");
        let anchor = format!("docs/OPERATIONS.md#{}", name.to_lowercase());
        assert!(
            text(&annotations["runbook_url"]).ends_with(&anchor),
            "{name}"
        );
        assert!(
            headings.contains(name),
            "{name}: no heading in docs/OPERATIONS.md"
        );
    }
}

/// An increase is extrapolated to its range, and since Prometheus 3 ranges are open to the left: 2
/// or 2.2, by version. What people read is rounded.
#[test]
fn no_alert_tells_fractions_of_events() {
    for rule in rules() {
        let annotations = rule["annotations"].to_string();
        if text(&rule["expr"]).contains("increase(") && annotations.contains("$value") {
            let name = text(&rule["alert"]);
            assert!(
                annotations.contains("printf \\\"%.0f\\\""),
                "{name}: {annotations}"
            );
        }
    }
}

/// Whatever has every resource of a group says why, to people and to scanners, and may only read.
#[test]
fn wildcards_have_a_reason() {
    let release = Release {
        arguments: &["--show-only=templates/aggregator-rbac.yaml"],
        ..Release::default()
    };
    let text_of = release.text(Helm::Four).unwrap();
    let mut wildcards = 0;
    for object in tests_manifests::check(&text_of).unwrap() {
        let rules = list(&object.value["rules"]);
        let every = |rule: &&Value| list(&rule["resources"]).contains(&Value::from("*"));
        for rule in rules.iter().filter(every) {
            wildcards += 1;
            let reads = |verb: &Value| ["get", "list"].contains(&text(verb));
            assert!(list(&rule["verbs"]).iter().all(reads), "{rule}");
            let annotations = &object.value["metadata"]["annotations"];
            for scanner in [
                "checkov.io/skip1",
                "ignore-check.kube-linter.io/wildcard-in-rules",
            ] {
                assert!(!text(&annotations[scanner]).is_empty(), "{}", object.name);
            }
        }
    }
    assert_eq!(wildcards, 3);
    assert_eq!(text_of.matches("trivy:ignore:KSV-0046").count(), wildcards);
}

/// The operator gets the rules that promtool tests, but for what is known of the installation.
#[test]
fn the_operator_gets_the_same_rules() {
    let tested = read("deploy/chart/alerts/meshmeter.rules.yaml").unwrap();
    for (values, replicas, runbook) in [
        (
            "alerts: {enabled: true}",
            2,
            "https://example.com/meshmeter/docs/OPERATIONS.md",
        ),
        (
            "aggregator: {replicas: 3}\nalerts: {enabled: true, runbookUrl: 'https://wiki/runbook'}",
            3,
            "https://wiki/runbook",
        ),
    ] {
        let objects = chart(values).unwrap();
        let rule = &find(&objects, "PrometheusRule", "meshmeter").unwrap().value;
        let expected = tested
            .replace("https://example.com/meshmeter/docs/OPERATIONS.md", runbook)
            .replace(
                "count(meshmeter_build_info) < 2",
                &format!("count(meshmeter_build_info) < {replicas}"),
            );
        let expected = &tests_manifests::documents(&expected).unwrap()[0];
        assert_eq!(rule["spec"], *expected);
    }
}

/// Grafana's sidecar gets the dashboards that are tested.
#[test]
fn grafana_gets_the_same_dashboards() {
    let objects = chart("dashboards: {enabled: true}").unwrap();
    let map = &find(&objects, "ConfigMap", "meshmeter-dashboards")
        .unwrap()
        .value;
    assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
    for name in ["fleet", "workload", "self"] {
        let file = format!("{name}.json");
        let tested = read(&format!("deploy/chart/dashboards/{file}")).unwrap();
        let [given, tested] = [text(&map["data"][&file]), &tested]
            .map(|text| serde_json::from_str::<Value>(text).unwrap());
        assert_eq!(given, tested, "{name}");
    }
}

/// Dashboards have an id, a source that can be chosen, distinct panels, and no query without a
/// name.
#[test]
fn dashboards_are_in_order() {
    let mut ids = BTreeSet::new();
    for name in ["fleet", "workload", "self"] {
        let board: Value =
            serde_json::from_str(&read(&format!("deploy/chart/dashboards/{name}.json")).unwrap())
                .unwrap();
        assert_eq!(text(&board["uid"]), format!("meshmeter-{name}"));
        assert!(ids.insert(text(&board["title"]).to_owned()));
        assert_eq!(board["templating"]["list"][0]["type"], "datasource");
        let mut panels = BTreeSet::new();
        let mut queries = 0;
        for panel in list(&board["panels"]) {
            assert!(
                panels.insert(panel["id"].as_u64().unwrap()),
                "{name}: {panel}"
            );
            for target in list(&panel["targets"]) {
                assert!(
                    !text(&target["legendFormat"]).is_empty(),
                    "{name}: {target}"
                );
                assert_eq!(target["datasource"]["uid"], "${datasource}");
                queries += 1;
            }
        }
        assert!(queries >= 8, "{name}");
    }
}

/// Policies allow what they are named after and nothing else; whom they trust is one service
/// account.
#[test]
fn policies_of_aws_are_narrow() {
    let policy = |name: &str| -> Value {
        let policy: Value =
            serde_json::from_str(&read(&format!("deploy/aws/{name}.json")).unwrap()).unwrap();
        assert_eq!(policy["Version"], "2012-10-17", "{name}");
        let statements = list(&policy["Statement"]);
        assert_eq!(statements.len(), 1, "{name}");
        let fields = statements[0].as_object().unwrap().keys();
        let known = [
            "Sid",
            "Effect",
            "Action",
            "Resource",
            "Principal",
            "Condition",
        ];
        assert!(
            fields
                .into_iter()
                .all(|field| known.contains(&field.as_str())),
            "{name}"
        );
        assert_eq!(statements[0]["Effect"], "Allow", "{name}");
        statements[0].clone()
    };
    let write = policy("remote-write-policy");
    assert_eq!(write["Action"], "aps:RemoteWrite");
    assert_eq!(
        write["Resource"],
        "arn:aws:aps:REGION:ACCOUNT_ID:workspace/WORKSPACE_ID"
    );
    let stream = policy("xds-stream-policy");
    assert_eq!(stream["Action"], "appmesh:StreamAggregatedResources");
    assert_eq!(
        stream["Resource"],
        "arn:aws:appmesh:REGION:ACCOUNT_ID:mesh/MESH_NAME/virtualNode/*"
    );

    let irsa = policy("irsa-trust-policy");
    assert_eq!(irsa["Action"], "sts:AssumeRoleWithWebIdentity");
    let equals = &irsa["Condition"]["StringEquals"];
    assert_eq!(
        equals["OIDC_PROVIDER:sub"],
        "system:serviceaccount:meshmeter:meshmeter"
    );
    assert_eq!(equals["OIDC_PROVIDER:aud"], "sts.amazonaws.com");
    let identity = policy("pod-identity-trust-policy");
    assert_eq!(identity["Principal"]["Service"], "pods.eks.amazonaws.com");
    assert_eq!(
        list(&identity["Action"]),
        ["sts:AssumeRole", "sts:TagSession"]
    );
    let association: Value =
        serde_json::from_str(&read("deploy/aws/pod-identity-association.json").unwrap()).unwrap();
    assert_eq!(
        (
            text(&association["namespace"]),
            text(&association["serviceAccount"])
        ),
        ("meshmeter", "meshmeter")
    );
}
