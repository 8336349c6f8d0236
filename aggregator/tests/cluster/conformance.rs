//! Every request that was recorded of a real kube-apiserver, HPA controller, kubectl and Go client,
//! sent again through real TLS with certificates of the right kind. `tests/traces` has the
//! recordings; only the names of their metrics, which this API does not serve, are replaced by one
//! that it does.

use serde_json::Value;
use tests_support::kubernetes::proxy::HPA_USER;

use crate::control_plane::{Caller, Cluster};

const REQUESTS: &str = include_str!("../../../tests/traces/hpa-requests.txt");
const GO_CLIENTS: [&str; 3] = [
    include_str!("../../../tests/traces/go-client-json.txt"),
    include_str!("../../../tests/traces/go-client-proto.txt"),
    include_str!("../../../tests/traces/go-client-legacy-discovery.txt"),
];

#[derive(Clone, Copy, Debug)]
enum Expected {
    /// `APIResourceList` of this group and version, not empty.
    Resources(&'static str),
    /// Aggregated discovery of both groups.
    Aggregated,
    /// `OpenAPI` of three groups and versions.
    OpenApi,
    /// `MetricValueList` of this version with these values by name.
    Values(&'static str, &'static [(&'static str, &'static str)]),
    /// `ExternalMetricValueList` with this value.
    External(&'static str),
    /// A `Status` with this code and message.
    Refusal(u16, &'static str),
}

const TWO: &[(&str, &str)] = &[("llm-959c885bb-5c5rq", "10"), ("llm-959c885bb-8x7r2", "30")];
const SUM: &[(&str, &str)] = &[("llm", "40")];

/// By number of the recorded request. 21 to 25 and 30 are not requests to these groups, or have no
/// head.
const EXPECTED: [(u32, Expected); 25] = [
    (1, Expected::Resources("custom.metrics.k8s.io/v1beta2")),
    (2, Expected::Resources("custom.metrics.k8s.io/v1beta1")),
    (3, Expected::Resources("external.metrics.k8s.io/v1beta1")),
    (4, Expected::Aggregated),
    (5, Expected::Resources("custom.metrics.k8s.io/v1beta2")),
    (6, Expected::Aggregated),
    (7, Expected::Resources("custom.metrics.k8s.io/v1beta2")),
    (
        8,
        Expected::Refusal(404, "could not find the requested resource: /openapi/v2"),
    ),
    (9, Expected::OpenApi),
    (10, Expected::Values("v1beta2", TWO)),
    (11, Expected::Refusal(400, "unknown key \"model\"")),
    (
        12,
        Expected::Refusal(
            404,
            "the metric job:queue.depth-P95:sum for pods; known metrics: ",
        ),
    ),
    (13, Expected::Values("v1beta1", TWO)),
    (14, Expected::Values("v1beta2", SUM)),
    (
        15,
        Expected::Refusal(
            404,
            "for ingresses.networking.k8s.io: metrics are served for pods, ",
        ),
    ),
    (16, Expected::Values("v1beta2", SUM)),
    (17, Expected::Values("v1beta2", &[("demo", "40")])),
    (18, Expected::Refusal(400, "unknown key \"verb\"")),
    (19, Expected::Refusal(400, "service names the pods already")),
    (20, Expected::External("40")),
    (26, Expected::Resources("custom.metrics.k8s.io/v1beta2")),
    (27, Expected::Values("v1beta2", TWO)),
    (28, Expected::Values("v1beta2", TWO)),
    (29, Expected::External("40")),
    (
        30,
        Expected::Refusal(
            404,
            "could not find the requested resource: /apis/metrics.k8s.io",
        ),
    ),
];

struct Recorded {
    number: u32,
    path: String,
    headers: Vec<(String, String)>,
}

/// The heads of `REQUESTS`: a title with a number, `>>>` and the request line, then header lines.
fn recorded() -> Vec<Recorded> {
    let sections = REQUESTS.split("\n## ").skip(1);
    let head = |section: &str| {
        let number = section.split('.').next()?.parse().ok()?;
        let head = section.split(">>> GET ").nth(1)?;
        let mut lines = head.lines().take_while(|line| !line.starts_with("<<<"));
        let path = lines.next()?.strip_suffix(" HTTP/1.1")?;
        Some(Recorded {
            number,
            path: served(path),
            headers: headers(lines),
        })
    };
    sections.filter_map(head).collect()
}

fn headers<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<(String, String)> {
    let pairs = lines.filter_map(|line| line.trim().split_once(": "));
    pairs
        .filter(|(name, _)| *name != "Host")
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The path, of a metric that is served.
fn served(path: &str) -> String {
    ["queue_depth", "service_queue", "mesh_requests_waiting"]
        .iter()
        .fold(path.to_owned(), |path, name| {
            path.replace(&format!("/{name}"), "/appmesh_requests_per_second")
        })
}

fn check(what: &str, expected: Expected, code: u16, body: &Value) {
    let context = format!("{what}: {code} {body}");
    match expected {
        Expected::Resources(group_version) => {
            assert_eq!(code, 200, "{context}");
            assert_eq!(body["kind"], "APIResourceList", "{context}");
            assert_eq!(body["groupVersion"], group_version, "{context}");
            assert!(!body["resources"].as_array().unwrap().is_empty());
        }
        Expected::Aggregated => {
            assert_eq!(body["kind"], "APIGroupDiscoveryList", "{context}");
            assert_eq!(body["items"].as_array().unwrap().len(), 3, "{context}");
        }
        Expected::OpenApi => {
            assert_eq!(body["paths"].as_object().unwrap().len(), 4, "{context}");
        }
        Expected::Values(version, values) => {
            assert_eq!(code, 200, "{context}");
            assert_eq!(body["kind"], "MetricValueList", "{context}");
            assert_eq!(
                body["apiVersion"],
                format!("custom.metrics.k8s.io/{version}"),
                "{context}"
            );
            check_values(version, values, body, &context);
        }
        Expected::External(value) => {
            assert_eq!(code, 200, "{context}");
            assert_eq!(body["kind"], "ExternalMetricValueList", "{context}");
            let items = body["items"].as_array().unwrap();
            assert_eq!((items.len(), &items[0]["value"]), (1, &value.into()));
        }
        Expected::Refusal(expected, message) => {
            assert_eq!(code, expected, "{context}");
            assert_eq!(body["kind"], "Status", "{context}");
            assert_eq!(body["code"], expected, "{context}");
            assert!(
                body["message"].as_str().unwrap().contains(message),
                "{context}"
            );
        }
    }
}

fn check_values(version: &str, values: &[(&str, &str)], body: &Value, context: &str) {
    let items = body["items"].as_array().unwrap();
    let mut found: Vec<(&str, &str)> = items
        .iter()
        .map(|item| {
            let name = item["describedObject"]["name"].as_str().unwrap();
            (name, item["value"].as_str().unwrap())
        })
        .collect();
    found.sort_unstable();
    assert_eq!(found, values, "{context}");
    for item in items {
        let (name, window) = match version {
            "v1beta2" => (&item["metric"]["name"], &item["windowSeconds"]),
            _ => (&item["metricName"], &item["window"]),
        };
        assert_eq!(name, "appmesh_requests_per_second", "{context}");
        assert_eq!(window, 10, "{context}");
        assert!(
            item["timestamp"].as_str().unwrap().ends_with('Z'),
            "{context}"
        );
    }
}

/// kube-apiserver, HPA controller and kubectl, through the front proxy.
#[tokio::test(flavor = "multi_thread")]
async fn answers_what_a_cluster_asks() {
    let cluster = Cluster::start(&[]).await;
    cluster.server.allow(HPA_USER);
    let front_proxy = cluster.front_proxy("").identity;
    let recorded = recorded();
    let mut checked = 0;
    for (number, expected) in EXPECTED {
        let request = recorded.iter().find(|request| request.number == number);
        let request = request.unwrap_or_else(|| panic!("request {number} is not recorded"));
        let caller = Caller {
            identity: front_proxy.clone(),
            headers: request.headers.clone(),
        };
        let reply = cluster.get(&request.path, &caller).await;
        let what = format!("request {number}, {}", request.path);
        check(&what, expected, reply.status.as_u16(), &reply.json());
        let media_type = reply.headers["content-type"].to_str().unwrap();
        let aggregated = matches!(expected, Expected::Aggregated);
        assert_eq!(
            media_type.contains("as=APIGroupDiscoveryList"),
            aggregated,
            "{what}: {media_type}"
        );
        checked += 1;
    }
    assert_eq!(checked, EXPECTED.len());
    cluster.stop().await;
}

/// The Go clients in both modes and with both kinds of discovery, by client certificate: whatever
/// they ask is answered in JSON, with a list where it is discovery, and a `Status` otherwise, since
/// their metrics are none of ours.
#[tokio::test(flavor = "multi_thread")]
async fn answers_what_go_clients_ask() {
    let cluster = Cluster::start(&[]).await;
    let admin = cluster.server.ca();
    let identity = admin.client("admin", &["system:masters"]).unwrap();
    let mut asked = 0;
    for trace in GO_CLIENTS {
        for request in trace.split("\nGET ").skip(1) {
            let mut lines = request.lines();
            let path = lines.next().unwrap();
            let caller = Caller {
                identity: Some(identity.clone()),
                headers: headers(lines.take_while(|line| line.starts_with(' '))),
            };
            let reply = cluster.get(path, &caller).await;
            let body = reply.json();
            let kind = body["kind"].as_str().unwrap();
            let is_discovery = path.contains("?timeout=") || !path.contains("/namespaces/");
            match reply.status.as_u16() {
                200 => assert!(is_discovery && kind.starts_with("API"), "{path}: {body}"),
                code => assert!(
                    matches!(code, 400 | 404) && kind == "Status",
                    "{path}: {body}"
                ),
            }
            asked += 1;
        }
    }
    assert!(asked > 20, "{asked} requests were read from the traces");
    cluster.stop().await;
}
