//! `OpenAPI` v3, for `kubectl explain` and client generators. One small document per group and
//! version, of constant size. Version 2 is not served: kube-apiserver accepts a 404.

use serde_json::{Value, json};

use crate::path::{ApiVersion, EXTERNAL_GROUP, EXTERNAL_VERSION, group_versions};

mod view;

/// `/openapi/v3`: where each document is. `etags` in the order of [`group_versions`].
pub(crate) fn root(etags: [&str; 4]) -> Value {
    let entries = group_versions().into_iter().zip(etags);
    let paths: serde_json::Map<String, Value> = entries
        .map(|(group_version, etag)| {
            let hash = etag.trim_matches('"');
            let url = format!("/openapi/v3/apis/{group_version}?hash={hash}");
            (
                format!("apis/{group_version}"),
                json!({"serverRelativeURL": url}),
            )
        })
        .collect();
    json!({"paths": paths})
}

/// The documents, in the order of [`group_versions`].
pub(crate) fn documents() -> [Value; 4] {
    let [preferred, other] = ApiVersion::ALL.map(custom);
    [preferred, other, external(), view::document()]
}

fn custom(version: ApiVersion) -> Value {
    let group_version = version.group_version();
    let value = match version {
        ApiVersion::V1Beta2 => json!({
            "describedObject": {"type": "object"},
            "metric": {"type": "object", "properties": {
                "name": {"type": "string"}, "selector": {"type": "object", "nullable": true}}},
            "timestamp": {"type": "string", "format": "date-time"},
            "windowSeconds": {"type": "integer", "format": "int64"},
            "value": quantity(),
        }),
        ApiVersion::V1Beta1 => json!({
            "describedObject": {"type": "object"},
            "metricName": {"type": "string"},
            "selector": {"type": "object", "nullable": true},
            "timestamp": {"type": "string", "format": "date-time"},
            "window": {"type": "integer", "format": "int64"},
            "value": quantity(),
        }),
    };
    let base = format!("/apis/{group_version}/namespaces/{{namespace}}");
    let paths = [
        (
            format!("{base}/{{resource}}/{{name}}/{{metric}}"),
            vec!["namespace", "resource", "name", "metric"],
            "A metric of one object, or with the resource pods and the name * of all pods that labelSelector selects",
        ),
        (
            format!("{base}/metrics/{{metric}}"),
            vec!["namespace", "metric"],
            "A metric of a namespace",
        ),
    ];
    let paths = paths.map(|(path, names, summary)| {
        let selectors = ["labelSelector", "metricLabelSelector"];
        (
            path,
            operation(&names, &selectors, summary, "MetricValueList"),
        )
    });
    document(&group_version, paths.into(), "MetricValue", &value)
}

fn external() -> Value {
    let group_version = format!("{EXTERNAL_GROUP}/{EXTERNAL_VERSION}");
    let value = json!({
        "metricName": {"type": "string"},
        "metricLabels": {"type": "object", "additionalProperties": {"type": "string"}},
        "timestamp": {"type": "string", "format": "date-time"},
        "window": {"type": "integer", "format": "int64"},
        "value": quantity(),
    });
    let path = format!("/apis/{group_version}/namespaces/{{namespace}}/{{metric}}");
    let summary = "A metric summed over the pods, service or workload that labelSelector selects";
    let operation = operation(
        &["namespace", "metric"],
        &["labelSelector"],
        summary,
        "ExternalMetricValueList",
    );
    document(
        &group_version,
        vec![(path, operation)],
        "ExternalMetricValue",
        &value,
    )
}

/// Error responses, each with a `Status`: code and description.
const ERRORS: [(&str, &str); 10] = [
    (
        "400",
        "Bad Request: a name, a selector or a query that cannot be read",
    ),
    ("401", "Unauthorized: no valid credentials"),
    ("403", "Forbidden: the user may not read this"),
    (
        "404",
        "Not Found: no such metric or object, or none of the objects has a value",
    ),
    ("405", "Method Not Allowed: only GET, and no watch"),
    ("406", "Not Acceptable: only JSON is served"),
    ("414", "URI Too Long"),
    ("431", "Request Header Fields Too Large"),
    ("500", "Internal Server Error"),
    (
        "503",
        "Service Unavailable: the value may be wrong, or a token or access review failed",
    ),
];

fn responses(list: &str) -> Value {
    let content = |schema: &str| json!({"application/json": {"schema": {"$ref": format!("#/components/schemas/{schema}")}}});
    let mut responses = serde_json::Map::from_iter([(
        "200".to_owned(),
        json!({"description": "OK", "content": content(list)}),
    )]);
    for (code, when) in ERRORS {
        responses.insert(
            code.to_owned(),
            json!({"description": when, "content": content("Status")}),
        );
    }
    Value::Object(responses)
}

/// `metav1.Status`
fn status() -> Value {
    json!({
        "type": "object",
        "properties": {
            "kind": {"type": "string"},
            "apiVersion": {"type": "string"},
            "metadata": {"type": "object"},
            "status": {"type": "string"},
            "message": {"type": "string"},
            "reason": {"type": "string"},
            "details": {"type": "object"},
            "code": {"type": "integer", "format": "int32"},
        },
        "x-kubernetes-group-version-kind": [{"group": "", "version": "v1", "kind": "Status"}],
    })
}

fn quantity() -> Value {
    json!({"type": "string", "description": "A resource.Quantity, such as 1500m"})
}

fn operation(path: &[&str], query: &[&str], summary: &str, list: &str) -> Value {
    let parameter = |place: &'static str, required: bool| move |name: &&str| json!({"name": name, "in": place, "required": required, "schema": {"type": "string"}});
    let parameters: Vec<Value> = path
        .iter()
        .map(parameter("path", true))
        .chain(query.iter().map(parameter("query", false)))
        .collect();
    json!({"get": {
        "summary": summary,
        "parameters": parameters,
        "responses": responses(list),
    }})
}

fn document(
    group_version: &str,
    paths: Vec<(String, Value)>,
    kind: &str,
    properties: &Value,
) -> Value {
    let (group, version) = group_version.split_once('/').unwrap_or((group_version, ""));
    let list = format!("{kind}List");
    json!({
        "openapi": "3.0.0",
        "info": {"title": "meshmeter", "version": concat!("v", env!("CARGO_PKG_VERSION"))},
        "paths": paths.into_iter().collect::<serde_json::Map<_, _>>(),
        "components": {"schemas": {
            "Status": status(),
            kind: {"type": "object", "properties": properties},
            &list: {
                "type": "object",
                "properties": {
                    "kind": {"type": "string"},
                    "apiVersion": {"type": "string"},
                    "metadata": {"type": "object"},
                    "items": {"type": "array", "items": {"$ref": format!("#/components/schemas/{kind}")}},
                },
                "x-kubernetes-group-version-kind": [{"group": group, "version": version, "kind": list}],
            },
        }},
    })
}
