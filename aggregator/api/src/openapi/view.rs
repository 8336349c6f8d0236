//! `OpenAPI` v3 of the API group `view.meshmeter.io`.

use serde_json::{Map, Value, json};

use super::{responses, status};
use crate::path::{VIEW_GROUP, VIEW_VERSION};

// Forms of fields, in the table below.
const TEXT: &str = "text";
const NUMBER: &str = "number";
const COUNT: &str = "count";
const FLAG: &str = "flag";
const TEXTS: &str = "[text]";
const BY_NAME: &str = "{text}";
const COUNTS: &str = "{count}";
const NUMBERS: &str = "[number]";

/// A schema: its name, and its fields with their forms. `?` behind a form: may be `null`.
type Schema = (&'static str, &'static [(&'static str, &'static str)]);

const RATES: &[(&str, &str)] = &[
    ("requestsPerSecond", "number?"),
    ("attemptsPerSecond", "number?"),
    ("inflight", "number?"),
    ("errorRatio", "number?"),
    ("windowMs", "count?"),
    ("ageMs", "count?"),
];

/// All schemas but lists. A form that is none of the above is another schema.
const SCHEMAS: &[Schema] = &[
    (
        "Pod",
        &[
            ("namespace", TEXT),
            ("name", TEXT),
            ("workload", "WorkloadRef"),
            ("labels", BY_NAME),
            ("state", TEXT),
            ("reason", TEXT),
            ("message", TEXT),
            ("ready", "flag?"),
            ("filterVersion", TEXT),
            ("history", NUMBERS),
        ],
    ),
    ("WorkloadRef", &[("kind", TEXT), ("name", TEXT)]),
    (
        "Group",
        &[
            ("group", TEXT),
            ("kind", TEXT),
            ("namespace", TEXT),
            ("name", TEXT),
            ("pods", COUNTS),
            ("skew", "number?"),
            ("history", NUMBERS),
            ("hpas", "[HpaState]"),
        ],
    ),
    (
        "HpaState",
        &[
            ("name", TEXT),
            ("minReplicas", COUNT),
            ("maxReplicas", COUNT),
            ("currentReplicas", "count?"),
            ("desiredReplicas", "count?"),
        ],
    ),
    (
        "Read",
        &[
            ("atUnixMs", COUNT),
            ("replica", TEXT),
            ("user", TEXT),
            ("userAgent", TEXT),
            ("hpa", TEXT),
            ("metric", TEXT),
            ("object", TEXT),
            ("selector", TEXT),
            ("metricSelector", TEXT),
            ("code", COUNT),
            ("sumMilli", "count?"),
            ("source", TEXT),
            ("pods", COUNT),
            ("ageMs", COUNT),
            ("windowMs", COUNT),
            ("leftOut", COUNTS),
            ("message", TEXT),
            ("computedReplicas", COUNT),
            ("each", "[PodRead]"),
        ],
    ),
    (
        "PodRead",
        &[
            ("name", TEXT),
            ("valueMilli", "count?"),
            ("windowMs", COUNT),
            ("ageMs", COUNT),
            ("state", TEXT),
            ("pending", FLAG),
        ],
    ),
    (
        "Change",
        &[
            ("atUnixMs", COUNT),
            ("hpa", TEXT),
            ("currentReplicas", COUNT),
            ("desiredReplicas", COUNT),
            ("readyPods", COUNT),
            ("conditions", BY_NAME),
        ],
    ),
    (
        "ReplicaAnswer",
        &[("name", TEXT), ("error", TEXT), ("sinceUnixMs", COUNT)],
    ),
    (
        "Explanation",
        &[
            ("kind", TEXT),
            ("apiVersion", TEXT),
            ("namespace", TEXT),
            ("hpa", TEXT),
            ("atUnixMs", COUNT),
            ("target", TEXT),
            ("minReplicas", COUNT),
            ("maxReplicas", COUNT),
            ("currentReplicas", "count?"),
            ("derivedReplicas", "count?"),
            ("observedReplicas", "count?"),
            ("metrics", "[MetricExplanation]"),
            ("limits", "[Step]"),
            ("wouldChange", TEXTS),
            ("unknown", TEXTS),
            ("sentences", TEXTS),
            ("change", "Change"),
            ("replicas", "[ReplicaAnswer]"),
        ],
    ),
    (
        "MetricExplanation",
        &[
            ("metric", TEXT),
            ("target", TEXT),
            ("ours", FLAG),
            ("read", "Read"),
            ("proposedReplicas", "count?"),
            ("steps", "[Step]"),
        ],
    ),
    ("Step", &[("text", TEXT), ("replicas", COUNT)]),
    (
        "Timeline",
        &[
            ("kind", TEXT),
            ("apiVersion", TEXT),
            ("namespace", TEXT),
            ("hpa", TEXT),
            ("target", TEXT),
            ("minReplicas", COUNT),
            ("maxReplicas", COUNT),
            ("targetMilli", "count?"),
            ("entries", "[Entry]"),
            ("reactions", "[Reaction]"),
            ("replicas", "[ReplicaAnswer]"),
        ],
    ),
    (
        "Entry",
        &[
            ("atUnixMs", COUNT),
            ("kind", TEXT),
            ("text", TEXT),
            ("sumMilli", COUNT),
            ("count", COUNT),
        ],
    ),
    (
        "Reaction",
        &[
            ("stepUnixMs", COUNT),
            ("fromReplicas", COUNT),
            ("toReplicas", COUNT),
            ("readMs", "count?"),
            ("decisionMs", "count?"),
            ("readyMs", "count?"),
        ],
    ),
    (
        "Health",
        &[
            ("kind", TEXT),
            ("apiVersion", TEXT),
            ("atUnixMs", COUNT),
            ("replicas", "[Replica]"),
            ("uncounted", "[Uncounted]"),
            ("sidecars", "[SidecarVersion]"),
        ],
    ),
    (
        "Replica",
        &[
            ("name", TEXT),
            ("error", TEXT),
            ("version", TEXT),
            ("notReady", TEXTS),
            ("atUnixMs", COUNT),
            ("pods", COUNTS),
            ("streams", COUNT),
            ("requestsPerSecond", "number?"),
            ("refused", COUNTS),
            ("certificates", "[Certificate]"),
            ("remoteWrite", "RemoteWrite"),
            ("ledgerBytes", COUNT),
            ("ledgerBytesMax", COUNT),
            ("unknown", TEXTS),
        ],
    ),
    (
        "Certificate",
        &[("listener", TEXT), ("notAfterUnixMs", COUNT)],
    ),
    (
        "RemoteWrite",
        &[
            ("writing", FLAG),
            ("lagMs", "count?"),
            ("sent", COUNT),
            ("dropped", COUNTS),
            ("lastError", TEXT),
        ],
    ),
    (
        "Uncounted",
        &[
            ("namespace", TEXT),
            ("workload", TEXT),
            ("reason", TEXT),
            ("message", TEXT),
            ("pods", COUNT),
            ("example", TEXT),
        ],
    ),
    (
        "SidecarVersion",
        &[("version", TEXT), ("state", TEXT), ("pods", COUNT)],
    ),
    (
        "ListMeta",
        &[("continue", TEXT), ("remainingItemCount", COUNT)],
    ),
];

/// Lists: their kind, and the schema of an item.
const LISTS: [(&str, &str); 5] = [
    ("PodList", "Pod"),
    ("WorkloadList", "Group"),
    ("NamespaceList", "Group"),
    ("ServiceList", "Group"),
    ("ReadList", "Read"),
];

const PAGED: &[&str] = &["limit", "continue", "history"];
const SELECTED: &[&str] = &["labelSelector", "limit", "continue", "history"];
const READS: &[&str] = &["from", "to", "hpa", "limit", "continue", "replica"];

/// Paths below the version: parameters of the query, schema of the answer, and what it is.
const PATHS: &[(&str, &[&str], &str, &str)] = &[
    (
        "pods",
        SELECTED,
        "PodList",
        "Pods of all namespaces, by namespace and name",
    ),
    (
        "namespaces/{namespace}/pods",
        SELECTED,
        "PodList",
        "Pods of a namespace",
    ),
    (
        "workloads",
        PAGED,
        "WorkloadList",
        "Workloads of all namespaces: Deployments rather than ReplicaSets",
    ),
    (
        "namespaces/{namespace}/workloads",
        PAGED,
        "WorkloadList",
        "Workloads of a namespace",
    ),
    (
        "services",
        PAGED,
        "ServiceList",
        "Services of all namespaces",
    ),
    (
        "namespaces/{namespace}/services",
        PAGED,
        "ServiceList",
        "Services of a namespace",
    ),
    ("namespaces", PAGED, "NamespaceList", "Namespaces with pods"),
    (
        "namespaces/{namespace}",
        PAGED,
        "NamespaceList",
        "One namespace",
    ),
    (
        "namespaces/{namespace}/reads",
        READS,
        "ReadList",
        "Who read which metric when, the newest first",
    ),
    (
        "namespaces/{namespace}/explanations/{name}",
        &["at"],
        "Explanation",
        "Why an HPA has as many replicas as it has",
    ),
    (
        "namespaces/{namespace}/timelines/{name}",
        &["from", "to"],
        "Timeline",
        "What an HPA read and did",
    ),
    (
        "health",
        &["replica"],
        "Health",
        "The state of meshmeter, replica by replica",
    ),
];

/// The document.
pub(super) fn document() -> Value {
    let mut schemas = Map::new();
    schemas.insert("Status".to_owned(), status());
    for (name, fields) in SCHEMAS {
        schemas.insert((*name).to_owned(), schema(name, fields));
    }
    for (kind, item) in LISTS {
        schemas.insert(kind.to_owned(), list(kind, item));
    }
    let base = format!("/apis/{VIEW_GROUP}/{VIEW_VERSION}");
    let paths = PATHS.iter().map(|(path, query, answer, summary)| {
        (
            format!("{base}/{path}"),
            operation(path, query, answer, summary),
        )
    });
    json!({
        "openapi": "3.0.0",
        "info": {"title": "meshmeter", "version": concat!("v", env!("CARGO_PKG_VERSION"))},
        "paths": paths.collect::<Map<_, _>>(),
        "components": {"schemas": schemas},
    })
}

fn operation(path: &str, query: &[&str], answer: &str, summary: &str) -> Value {
    let in_path = ["namespace", "name"];
    let in_path = in_path
        .into_iter()
        .filter(|name| path.contains(&format!("{{{name}}}")));
    let of_path = in_path.map(
        |name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}),
    );
    let of_query = query.iter().map(|name| {
        let (schema, description) = parameter(name);
        json!({"name": name, "in": "query", "required": false, "schema": schema, "description": description})
    });
    json!({"get": {
        "summary": summary,
        "parameters": of_path.chain(of_query).collect::<Vec<_>>(),
        "responses": responses(answer),
    }})
}

fn parameter(name: &str) -> (Value, &'static str) {
    let number = json!({"type": "integer", "format": "int64"});
    let text = json!({"type": "string"});
    match name {
        "limit" => (number, "Items of a page: at most 500, which is the default"),
        "continue" => (text, "metadata.continue of the page before"),
        "history" => (
            json!({"type": "boolean"}),
            "false leaves out the last two minutes",
        ),
        "labelSelector" => (text, "Only pods with these labels"),
        "hpa" => (text, "Only reads of this HPA"),
        "replica" => (text, "self: only what the replica that answers knows"),
        "at" => (number, "Milliseconds since 1970; without it now"),
        "from" => (
            number,
            "First millisecond since 1970; timelines: an hour ago",
        ),
        _ => (number, "Last millisecond since 1970"),
    }
}

fn schema(name: &str, fields: &[(&str, &str)]) -> Value {
    let rates: &[(&str, &str)] = match name {
        "Pod" | "Group" => RATES,
        _ => &[],
    };
    let properties: Map<_, _> = fields
        .iter()
        .chain(rates)
        .map(|(name, form)| ((*name).to_owned(), of_form(form)))
        .collect();
    let mut schema = json!({"type": "object", "properties": properties});
    if matches!(name, "Explanation" | "Timeline" | "Health") {
        schema["x-kubernetes-group-version-kind"] = kind_of(name);
    }
    schema
}

fn list(kind: &str, item: &str) -> Value {
    let fields = [
        ("kind", TEXT),
        ("apiVersion", TEXT),
        ("metadata", "ListMeta"),
        ("replicas", "[ReplicaAnswer]"),
        ("changes", "[Change]"),
    ];
    let mut list = schema("", &fields);
    list["properties"]["items"] = json!({"type": "array", "items": reference(item)});
    list["x-kubernetes-group-version-kind"] = kind_of(kind);
    list
}

fn kind_of(kind: &str) -> Value {
    json!([{"group": VIEW_GROUP, "version": VIEW_VERSION, "kind": kind}])
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

fn of_form(form: &str) -> Value {
    if let Some(form) = form.strip_suffix('?') {
        let mut schema = of_form(form);
        schema["nullable"] = true.into();
        return schema;
    }
    let within = |open, close| form.strip_prefix(open)?.strip_suffix(close);
    if form == NUMBERS {
        return json!({"type": "array", "items": {"type": "number", "nullable": true}});
    }
    if let Some(item) = within('[', ']') {
        return json!({"type": "array", "items": of_form(item)});
    }
    if let Some(value) = within('{', '}') {
        return json!({"type": "object", "additionalProperties": of_form(value)});
    }
    match form {
        TEXT => json!({"type": "string"}),
        NUMBER => json!({"type": "number"}),
        COUNT => json!({"type": "integer", "format": "int64"}),
        FLAG => json!({"type": "boolean"}),
        other => reference(other),
    }
}

#[cfg(test)]
mod tests;
