use http::Request;
use http::header::ACCEPT;
use http_body_util::BodyExt as _;
use prometheus_client::registry::Registry;
use serde_json::Value;

use super::*;

const V2: &str = "/apis/custom.metrics.k8s.io/v1beta2";

struct Fixture {
    api: Api,
    registry: Registry,
}

fn fixture() -> Fixture {
    let mut registry = Registry::with_prefix("meshmeter");
    let observations = Observations::register(&mut registry);
    let readiness: ReadinessChecks = Arc::new(|| {
        vec![Check {
            name: "settled",
            failure: Some("2000 ms to go".to_owned()),
        }]
    });
    let clock: Clock = Arc::new(|| aggregator_core::time::UnixMillis(1_795_457_724_500));
    let api = Api::new(store(), Arc::default(), clock, readiness, observations);
    Fixture { api, registry }
}

fn store() -> Arc<Store> {
    Arc::new(Store::new(aggregator_core::limits::StoreLimits::default()))
}

fn get(uri: &str) -> Request<()> {
    Request::get(uri).body(()).unwrap()
}

fn send(fixture: &Fixture, request: Request<()>) -> (StatusCode, HeaderMap, String) {
    let (parts, ()) = request.into_parts();
    let response = fixture.api.respond(&parts, false);
    let (head, body) = response.into_parts();
    let body = text_of(body);
    (head.status, head.headers, body)
}

/// A `Full` body is ready at once.
fn text_of(body: Full<Bytes>) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let bytes = runtime.block_on(body.collect()).unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn refused(fixture: &Fixture, reason: &str) -> u64 {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &fixture.registry).unwrap();
    let prefix = format!("meshmeter_api_refused_total{{reason=\"{reason}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&prefix));
    line.map_or(0, |count| count.parse().unwrap())
}

/// Bad requests: URL, code, reason it is counted under, part of the message.
fn bad_requests() -> [(String, u16, &'static str, &'static str); 10] {
    let metric = format!("{V2}/namespaces/prod/pods/*/appmesh_requests_per_second");
    let long = format!("{metric}?labelSelector={}", "a".repeat(URL_BYTES_MAX));
    [
        (
            format!("{V2}/namespaces/prod/pods/*/cpu"),
            404,
            "unknown_metric",
            "the metric cpu for pods; known metrics: appmesh_inflight_requests, ",
        ),
        (
            format!("{metric}?labelSelector=a+b"),
            400,
            "label_selector",
            "labelSelector: unable to parse requirement: found 'b'",
        ),
        (
            format!("{metric}?metricLabelSelector=%3D"),
            400,
            "metric_label_selector",
            "metricLabelSelector: found '='",
        ),
        (
            format!("{metric}?metricLabelSelector=verb%3DGET"),
            400,
            "metric_label_selector",
            "unknown key \"verb\"",
        ),
        (
            format!("{metric}?labelSelector=%zz"),
            400,
            "query",
            "\"%zz\"",
        ),
        (
            format!("{V2}/namespaces/prod/metrics/appmesh_requests_per_second?labelSelector=a"),
            400,
            "label_selector",
            "only pods/*",
        ),
        (
            format!("{V2}/namespaces/Prod/pods/*/m"),
            400,
            "path",
            "namespace \"Prod\"",
        ),
        (
            format!("{V2}/namespaces/prod/services/web/m"),
            404,
            "path",
            "the metric m for services",
        ),
        (
            "/openapi/v2".to_owned(),
            404,
            "path",
            "could not find the requested resource: /openapi/v2",
        ),
        (long, 414, "url_length", "at most 8192 are allowed"),
    ]
}

/// Every refusal is a Status that names the thing, and is counted under its reason.
#[test]
fn refuses_with_a_status_and_a_count() {
    for (uri, code, reason, message) in bad_requests() {
        let fixture = fixture();
        let (status, headers, body) = send(&fixture, get(&uri));
        let value: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(status.as_u16(), code, "{uri}: {body}");
        assert_eq!(
            (&value["kind"], &value["status"]),
            (&"Status".into(), &"Failure".into())
        );
        assert_eq!(value["code"], code);
        assert!(
            value["message"].as_str().unwrap().contains(message),
            "{uri}: {body}"
        );
        assert_eq!(headers[CONTENT_TYPE], "application/json");
        assert!(!headers.contains_key("retry-after"));
        assert_eq!(refused(&fixture, reason), 1, "{uri}");
    }
}

/// Only GET, without a body, with headers of a bounded size.
#[test]
fn refuses_other_methods_bodies_and_large_heads() {
    let fixture = fixture();
    let post = Request::post("/apis").body(()).unwrap();
    let (status, headers, body) = send(&fixture, post);
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(headers["allow"], "GET");
    assert!(body.contains("the method POST is not supported"), "{body}");
    assert_eq!(refused(&fixture, "method"), 1);

    let (parts, ()) = get("/apis").into_parts();
    assert_eq!(
        fixture.api.respond(&parts, true).status(),
        StatusCode::BAD_REQUEST
    );
    assert_eq!(refused(&fixture, "body"), 1);

    let mut large = get("/apis");
    let value = HeaderValue::from_str(&"v".repeat(HEADER_BYTES_MAX)).unwrap();
    large.headers_mut().insert("x-remote-group", value);
    let (status, _, body) = send(&fixture, large);
    assert_eq!(status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    assert!(body.contains("1 header lines with"), "{body}");
    let mut many = get("/apis");
    for _ in 0..=HEADERS_MAX {
        many.headers_mut()
            .append("x-remote-group", HeaderValue::from_static("g"));
    }
    assert_eq!(
        send(&fixture, many).0,
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
    );
    assert_eq!(refused(&fixture, "header_size"), 2);
}

/// JSON goes to whoever can read it; to protobuf alone the answer is 406.
#[test]
fn answers_json_or_says_so() {
    let fixture = fixture();
    let mut request = get(V2);
    let protobuf = HeaderValue::from_static("application/vnd.kubernetes.protobuf");
    request.headers_mut().insert(ACCEPT, protobuf);
    assert_eq!(send(&fixture, request).0, StatusCode::NOT_ACCEPTABLE);
    assert_eq!(refused(&fixture, "accept"), 1);
    let mut request = get(V2);
    let controller = HeaderValue::from_static("application/vnd.kubernetes.protobuf, */*");
    request.headers_mut().insert(ACCEPT, controller);
    let (status, headers, _) = send(&fixture, request);
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers[CONTENT_TYPE], "application/json");
}

/// Aggregated discovery goes to clients that ask for it, with a tag; who has the tag gets 304.
#[test]
fn serves_aggregated_discovery_with_a_tag() {
    let fixture = fixture();
    let mut request = get("/apis");
    let accept =
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    request
        .headers_mut()
        .insert(ACCEPT, HeaderValue::from_static(accept));
    let (status, headers, body) = send(&fixture, request.clone());
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers[CONTENT_TYPE], AGGREGATED);
    assert_eq!(headers[VARY], "Accept");
    assert!(body.contains("APIGroupDiscoveryList"));
    request
        .headers_mut()
        .insert(IF_NONE_MATCH, headers[ETAG].clone());
    let (status, again, body) = send(&fixture, request);
    assert_eq!((status, body.as_str()), (StatusCode::NOT_MODIFIED, ""));
    assert_eq!(again[ETAG], headers[ETAG]);
    let (_, plain, body) = send(&fixture, get("/apis"));
    assert_ne!(plain[ETAG], headers[ETAG]);
    assert!(body.contains("APIGroupList"));
}

/// Alive from the start, ready only when the checks say so; discovery does not wait for that.
#[test]
fn tells_alive_from_ready() {
    let fixture = fixture();
    for path in [
        "/healthz",
        "/livez",
        V2,
        "/version",
        "/api",
        "/",
        "/apis/custom.metrics.k8s.io",
    ] {
        assert_eq!(send(&fixture, get(path)).0, StatusCode::OK, "{path}");
    }
    let (status, _, body) = send(&fixture, get("/readyz"));
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(
        body,
        "[-]settled failed: 2000 ms to go\nreadyz check failed\n"
    );
    assert_eq!(
        send(&fixture, get("/readyz?exclude=settled")).0,
        StatusCode::OK
    );
    assert_eq!(
        send(&fixture, get("/readyz/nothing")).0,
        StatusCode::NOT_FOUND
    );
}

/// With nothing known the answer is a 404 that says how little is known.
#[test]
fn explains_that_no_pod_is_known() {
    let fixture = fixture();
    let metric = "appmesh_requests_per_second";
    let uri = format!("{V2}/namespaces/prod/pods/%2A/{metric}?labelSelector=app%3Djazz");
    let (status, headers, body) = send(&fixture, get(&uri));
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(
        body.contains("there are no pods matching app=jazz in namespace prod; 0 pods are known"),
        "{body}"
    );
    assert!(!headers.contains_key("meshmeter-signal-age-ms"));
    let (_, _, body) = send(
        &fixture,
        get(&format!("{V2}/namespaces/prod/pods/web-0/{metric}")),
    );
    assert!(
        body.contains("no such pod is known in namespace prod"),
        "{body}"
    );
    assert_eq!(refused(&fixture, "no_value"), 2);
}
