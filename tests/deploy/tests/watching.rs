//! Alerts, their tests and runbooks, dashboards, and the policies of AWS.
#![expect(clippy::unwrap_used, reason = "in a test any surprise is a failure")]

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;
use tests_deploy::{list, read, root, text};
use tests_support::artifacts;

fn rules() -> Vec<Value> {
    let text = read("deploy/alerts/meshmeter.rules.yaml").unwrap();
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
            .current_dir(root().join("deploy/alerts"))
            .output()
            .unwrap();
        let said =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }
    let tests =
        tests_manifests::documents(&read("deploy/alerts/meshmeter.test.yaml").unwrap()).unwrap();
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
    let notes = read("deploy/alerts/README.md").unwrap();
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
    let text_of = read("deploy/kustomize/base/rbac-people.yaml").unwrap();
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
    assert_eq!(wildcards, 2);
    assert_eq!(text_of.matches("trivy:ignore:KSV-0046").count(), wildcards);
}

/// The operator gets the rules that promtool tests.
#[test]
fn the_operator_gets_the_same_rules() {
    let (file, copy) = (
        "deploy/alerts/meshmeter.rules.yaml",
        "deploy/kustomize/components/alerts/rules.yaml",
    );
    let indented: String = read(file)
        .unwrap()
        .lines()
        .map(|line| {
            if line.is_empty() {
                "\n".to_owned()
            } else {
                format!("  {line}\n")
            }
        })
        .collect();
    let text = read(copy).unwrap();
    let (head, rules) = text.split_once("\nspec:\n").unwrap();
    assert!(head.contains("kind: PrometheusRule"), "{head}");
    assert!(
        rules == indented,
        "{copy}: behind `spec:` is {file}, two spaces further in; write it anew by sed 's/^\\(.\\)/  \\1/' {file}"
    );
}

/// Dashboards have an id, a source that can be chosen, distinct panels, and no query without a
/// name.
#[test]
fn dashboards_are_in_order() {
    let mut ids = BTreeSet::new();
    for name in ["fleet", "workload", "self"] {
        let board: Value =
            serde_json::from_str(&read(&format!("deploy/dashboards/{name}.json")).unwrap())
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
