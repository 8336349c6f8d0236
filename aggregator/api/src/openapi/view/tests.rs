//! The schema and what serde writes have the same fields.

use std::collections::BTreeMap;

use aggregator_view::documents::{
    Certificate, Change, Entry, EntryKind, Explanation, Group, GroupKind, Health, HpaState, List,
    ListMeta, MetricExplanation, Pod, PodRead, Rates, Reaction, Read, ReadSource, RemoteWrite,
    Replica, ReplicaAnswer, SidecarVersion, Step, Timeline, Uncounted, Workload,
};
use serde::Serialize;

use super::*;

fn text() -> String {
    "x".to_owned()
}

fn counts() -> BTreeMap<String, usize> {
    BTreeMap::from([(text(), 1)])
}

fn rates() -> Rates {
    Rates {
        requests_per_second: Some(1.0),
        attempts_per_second: Some(1.0),
        inflight: Some(1.0),
        error_ratio: Some(0.5),
        window_ms: Some(1),
        age_ms: Some(1),
    }
}

fn pod() -> Pod {
    Pod {
        namespace: text(),
        name: text(),
        workload: Some(Workload {
            kind: text(),
            name: text(),
        }),
        labels: BTreeMap::from([(text(), text())]),
        state: text(),
        reason: text(),
        message: text(),
        ready: Some(true),
        filter_version: text(),
        rates: rates(),
        history: vec![Some(1.0), None],
    }
}

fn group() -> Group {
    Group {
        group: GroupKind::Workload,
        kind: text(),
        namespace: text(),
        name: text(),
        pods: counts(),
        rates: rates(),
        skew: Some(1.0),
        history: vec![None],
        hpas: vec![HpaState {
            name: text(),
            min_replicas: 1,
            max_replicas: 2,
            current_replicas: Some(1),
            desired_replicas: Some(1),
        }],
    }
}

fn change() -> Change {
    Change {
        at_unix_ms: 1,
        hpa: text(),
        current_replicas: 1,
        desired_replicas: 2,
        ready_pods: Some(1),
        conditions: BTreeMap::from([(text(), text())]),
    }
}

fn read() -> Read {
    Read {
        at_unix_ms: 1,
        replica: text(),
        user: text(),
        user_agent: text(),
        hpa: text(),
        metric: text(),
        object: text(),
        selector: text(),
        metric_selector: text(),
        code: 200,
        sum_milli: Some(1),
        source: ReadSource::Pods,
        pods: 1,
        age_ms: 1,
        window_ms: 1,
        left_out: BTreeMap::from([(text(), 1)]),
        message: text(),
        computed_replicas: Some(1),
        each: Some(vec![PodRead {
            name: text(),
            value_milli: Some(1),
            window_ms: 1,
            age_ms: 1,
            state: text(),
            pending: true,
        }]),
    }
}

fn answer() -> ReplicaAnswer {
    ReplicaAnswer {
        name: text(),
        error: text(),
        since_unix_ms: Some(1),
    }
}

fn steps() -> Vec<Step> {
    vec![Step {
        text: text(),
        replicas: Some(1),
    }]
}

fn explanation() -> Explanation {
    Explanation {
        kind: text(),
        api_version: text(),
        namespace: text(),
        hpa: text(),
        at_unix_ms: 1,
        target: text(),
        min_replicas: 1,
        max_replicas: 1,
        current_replicas: Some(1),
        derived_replicas: Some(1),
        observed_replicas: Some(1),
        metrics: vec![MetricExplanation {
            metric: text(),
            target: text(),
            ours: true,
            read: Some(read()),
            proposed_replicas: Some(1),
            steps: steps(),
        }],
        limits: steps(),
        would_change: vec![text()],
        unknown: vec![text()],
        sentences: vec![text()],
        change: Some(change()),
        replicas: vec![answer()],
    }
}

fn timeline() -> Timeline {
    Timeline {
        kind: text(),
        api_version: text(),
        namespace: text(),
        hpa: text(),
        target: text(),
        min_replicas: 1,
        max_replicas: 1,
        target_milli: Some(1),
        entries: vec![Entry {
            at_unix_ms: 1,
            kind: EntryKind::Read,
            text: text(),
            sum_milli: Some(1),
            count: Some(1),
        }],
        reactions: vec![Reaction {
            step_unix_ms: 1,
            from_replicas: 1,
            to_replicas: 2,
            read_ms: Some(1),
            decision_ms: Some(1),
            ready_ms: Some(1),
        }],
        replicas: vec![answer()],
    }
}

fn health() -> Health {
    Health {
        kind: text(),
        api_version: text(),
        at_unix_ms: 1,
        replicas: vec![Replica {
            name: text(),
            error: text(),
            version: text(),
            not_ready: vec![text()],
            at_unix_ms: 1,
            pods: counts(),
            streams: 1,
            requests_per_second: Some(1.0),
            refused: BTreeMap::from([(text(), 1)]),
            certificates: vec![Certificate {
                listener: text(),
                not_after_unix_ms: 1,
            }],
            remote_write: Some(RemoteWrite {
                writing: true,
                lag_ms: Some(1),
                sent: 1,
                dropped: BTreeMap::from([(text(), 1)]),
                last_error: text(),
            }),
            ledger_bytes: 1,
            ledger_bytes_max: 1,
            unknown: vec![text()],
        }],
        uncounted: vec![Uncounted {
            namespace: text(),
            workload: text(),
            reason: text(),
            message: text(),
            pods: 1,
            example: text(),
        }],
        sidecars: vec![SidecarVersion {
            version: text(),
            state: text(),
            pods: 1,
        }],
    }
}

fn list<T: Serialize>(item: T) -> Value {
    let list = List {
        kind: text(),
        api_version: text(),
        metadata: ListMeta {
            continue_token: text(),
            remaining_item_count: Some(1),
        },
        items: vec![item],
        replicas: vec![answer()],
        changes: vec![change()],
    };
    serde_json::to_value(list).unwrap()
}

/// Compares `value`, in which every field is set, with its schema.
fn compare(schemas: &Value, name: &str, schema: &Value, value: &Value) {
    let schema = match schema["$ref"].as_str() {
        Some(reference) => {
            let target = reference.trim_start_matches("#/components/schemas/");
            return compare(schemas, target, &schemas[target], value);
        }
        None => schema,
    };
    match value {
        Value::Object(members) => {
            if let Some(each) = schema.get("additionalProperties") {
                for value in members.values() {
                    compare(schemas, name, each, value);
                }
                return;
            }
            let properties = schema["properties"].as_object();
            let properties = properties.unwrap_or_else(|| panic!("{name}: no object: {value}"));
            let known: Vec<_> = properties.keys().collect();
            assert_eq!(known, members.keys().collect::<Vec<_>>(), "{name}");
            for (field, value) in members {
                compare(
                    schemas,
                    &format!("{name}.{field}"),
                    &properties[field],
                    value,
                );
            }
        }
        Value::Array(items) => {
            assert_eq!(schema["type"], "array", "{name}");
            for item in items {
                compare(schemas, name, &schema["items"], item);
            }
        }
        Value::Null => assert_eq!(schema["nullable"], true, "{name}"),
        Value::String(_) => assert_eq!(schema["type"], "string", "{name}"),
        Value::Bool(_) => assert_eq!(schema["type"], "boolean", "{name}"),
        Value::Number(number) => {
            let kind = if number.is_f64() { "number" } else { "integer" };
            assert_eq!(schema["type"], kind, "{name}");
        }
    }
}

/// No field is forgotten, none is made up, and each has the type that serde writes.
#[test]
fn schemas_are_what_serde_writes() {
    let document = document();
    let schemas = &document["components"]["schemas"];
    let documents = [
        ("PodList", list(pod())),
        ("WorkloadList", list(group())),
        ("NamespaceList", list(group())),
        ("ServiceList", list(group())),
        ("ReadList", list(read())),
        ("Explanation", serde_json::to_value(explanation()).unwrap()),
        ("Timeline", serde_json::to_value(timeline()).unwrap()),
        ("Health", serde_json::to_value(health()).unwrap()),
    ];
    for (name, value) in documents {
        compare(schemas, name, &schemas[name], &value);
    }
}

/// What may be unknown is written as null, and the schema says so.
#[test]
fn unknown_is_null() {
    let document = document();
    let schemas = &document["components"]["schemas"];
    for (name, value) in [
        ("Pod", serde_json::to_value(Pod::default()).unwrap()),
        ("Read", serde_json::to_value(Read::default()).unwrap()),
        (
            "Explanation",
            serde_json::to_value(Explanation::default()).unwrap(),
        ),
        (
            "Timeline",
            serde_json::to_value(Timeline::default()).unwrap(),
        ),
        ("Replica", serde_json::to_value(Replica::default()).unwrap()),
    ] {
        for (field, value) in value.as_object().unwrap() {
            let schema = &schemas[name]["properties"][field];
            assert!(
                !value.is_null() || schema["nullable"] == true,
                "{name}.{field}"
            );
        }
    }
}
