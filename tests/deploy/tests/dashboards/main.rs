//! Dashboards: read strictly as Grafana does, and each panel asked of Prometheus' own engine about
//! a load that is known.
#![expect(clippy::unwrap_used, reason = "in a test any surprise is a failure")]

mod load;
mod panels;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;
use tests_deploy::{list, read, text};
use tests_support::artifacts;

use crate::panels::PANELS;

const BOARDS: [&str; 3] = ["fleet", "workload", "self"];

/// What a user chose, and what Grafana makes of a minute of scrapes.
const VARIABLES: [(&str, &str); 5] = [
    ("$__rate_interval", "1m"),
    ("$namespace", "prod"),
    ("$service", "jazz|metal"),
    ("$instance", "a|b"),
    // The same at each of the times.
    ("time()", "600"),
];

/// When panels are evaluated: on a scrape, and between two. Range selectors are open to the left
/// since Prometheus 3, which must make no difference.
const TIMES: [&str; 2] = ["10m", "10m7s"];

const SUMS: &str = "appmesh_requests_total";

fn board(name: &str) -> Value {
    serde_json::from_str(&read(&format!("deploy/chart/dashboards/{name}.json")).unwrap()).unwrap()
}

/// A query of a panel: its board, panel and reference, what it asks, and its legend.
struct Query {
    place: (&'static str, u64, String),
    expression: String,
    legend: String,
}

fn queries() -> Vec<Query> {
    let mut queries = Vec::new();
    for name in BOARDS {
        for panel in list(&board(name)["panels"]) {
            for target in list(&panel["targets"]) {
                let id = panel["id"].as_u64().unwrap();
                queries.push(Query {
                    place: (name, id, text(&target["refId"]).to_owned()),
                    expression: text(&target["expr"]).to_owned(),
                    legend: text(&target["legendFormat"]).to_owned(),
                });
            }
        }
    }
    queries
}

/// Every panel shows what the load was: none is without an expectation, and no expectation without
/// a panel.
#[test]
fn every_panel_shows_the_load_there_was() {
    let mut expected: BTreeMap<_, _> = PANELS
        .iter()
        .map(|(board, panel, reference, samples)| {
            ((*board, *panel, (*reference).to_owned()), *samples)
        })
        .collect();
    assert_eq!(expected.len(), PANELS.len(), "a panel is there twice");
    let mut tests = Vec::new();
    for query in queries() {
        let samples = expected.remove(&query.place);
        let samples = samples.unwrap_or_else(|| panic!("{:?}: what does it show?", query.place));
        let mut expression = query.expression;
        for (variable, value) in VARIABLES {
            expression = expression.replace(variable, value);
        }
        assert!(!expression.contains('$'), "{:?}: {expression}", query.place);
        for time in TIMES {
            // Beyond a thousandth is what floating-point numbers make of it.
            tests.push(json!({
                "expr": format!("round({expression}, 0.001)"),
                "eval_time": time,
                "exp_samples": samples.iter()
                    .map(|(labels, value)| json!({"labels": labels, "value": value}))
                    .collect::<Vec<_>>(),
            }));
        }
    }
    assert!(expected.is_empty(), "no such panel: {:?}", expected.keys());
    let series = load::series();
    let document = json!({
        "evaluation_interval": "15s",
        "tests": [{"interval": "15s", "input_series": series, "promql_expr_test": tests}],
    });
    promtool(&document);
}

/// Lines of a panel have different names, and none is without one.
#[test]
fn legends_tell_lines_apart() {
    for query in queries() {
        let samples = PANELS.iter().find(|panel| {
            (panel.0, panel.1, panel.2) == (query.place.0, query.place.1, &*query.place.2)
        });
        let samples = samples.unwrap().3;
        let names: BTreeSet<String> = samples
            .iter()
            .map(|(labels, _)| name_of(&query.legend, labels))
            .collect();
        let distinct = names.len() == samples.len() && !names.contains("");
        assert!(distinct, "{:?}: {names:?} of {samples:?}", query.place);
    }
}

/// What Grafana calls the series of `labels`: a label that is not there is empty.
fn name_of(legend: &str, labels: &str) -> String {
    let mut parts = legend.split("{{");
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (label, rest) = part.split_once("}}").unwrap();
        let (_, value) = labels
            .split_once(&format!("{}=\"", label.trim()))
            .unwrap_or_default();
        name.push_str(value.split('"').next().unwrap());
        name.push_str(rest);
    }
    name.trim().to_owned()
}

/// Of sums each replica writes its own: whatever is written is asked for as the larger of what
/// replicas tell, each by its own rate.
#[test]
fn no_query_adds_up_replicas() {
    let written = ["appmesh_", "envoy_cluster_"];
    let mut asked = 0;
    for query in queries() {
        let expression = &query.expression;
        for (at, _) in written
            .iter()
            .flat_map(|name| expression.match_indices(name))
        {
            let before = &expression[..at];
            let larger = ["max without (replica) (", "max without (replica) (rate("];
            let fits = larger.iter().any(|larger| before.ends_with(larger));
            assert!(fits, "{:?}: {expression}", query.place);
            asked += 1;
        }
    }
    assert!(asked > 5, "{asked}");
}

/// One request a second. Replica `a` is away for two minutes, and goes on from its checkpoint;
/// later `b`, which looked for longer, is away and begins at 0. The larger rate is right all the
/// time; the rate of the larger sum is not.
#[test]
fn sums_are_read_right_over_restarts() {
    let of = |replica: &str| format!("{SUMS}{{replica=\"{replica}\"}}");
    let series = json!([
        {"series": of("a"), "values": "0+15x20 _x8 435+15x60"},
        {"series": of("b"), "values": "9000+15x44 _x4 0+15x40"},
    ]);
    let right = format!("round(max without (replica) (rate({SUMS}[5m])), 0.001)");
    let wrong = format!("rate(max without (replica) ({SUMS})[5m:15s]) > bool 2");
    let at = |expression: &str, minute: u32, value: f64| {
        json!({
            "expr": expression,
            "eval_time": format!("{minute}m"),
            "exp_samples": [{"labels": "{}", "value": value}],
        })
    };
    let mut tests: Vec<_> = (5..=20).map(|minute| at(&right, minute, 1.0)).collect();
    tests.push(at(&wrong, 10, 0.0));
    tests.push(at(&wrong, 14, 1.0));
    promtool(&json!({
        "evaluation_interval": "15s",
        "tests": [{"interval": "15s", "input_series": series, "promql_expr_test": tests}],
    }));
}

/// Every field is one that Grafana knows, every one that its schema requires is there, and every
/// value is of its type.
#[test]
fn dashboards_are_as_grafana_wants_them() {
    let schema: Value = serde_json::from_str(include_str!("grafana.schema.json")).unwrap();
    for name in BOARDS {
        let board = board(name);
        tests_manifests::check_schema(&schema, &board)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut other = board.clone();
        other["links"][0].as_object_mut().unwrap().remove("icon");
        let missing = tests_manifests::check_schema(&schema, &other).unwrap_err();
        assert!(missing.to_string().contains("icon"), "{missing}");
        other = board;
        other["panels"][1]["fieldConfig"]["default"] = json!({});
        let unknown = tests_manifests::check_schema(&schema, &other).unwrap_err();
        assert!(unknown.to_string().contains("default"), "{unknown}");
    }
}

/// `promtool test rules` on `document`.
fn promtool(document: &Value) {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("panels.yaml");
    // JSON is YAML.
    std::fs::write(&file, serde_json::to_string_pretty(document).unwrap()).unwrap();
    let output = Command::new(artifacts::promtool().unwrap())
        .args(["test", "rules"])
        .arg(&file)
        .output()
        .unwrap();
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    let _ = write!(said, "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
}
