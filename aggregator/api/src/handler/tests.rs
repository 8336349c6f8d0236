use http::Request;
use http::header::ACCEPT;
use serde_json::Value;

use super::*;
use crate::testing::{EXTERNAL, TestApi, V2, inbound, running};

fn get(uri: &str) -> Request<()> {
    Request::get(uri).body(()).unwrap()
}

fn send(api: &TestApi, request: Request<()>) -> (StatusCode, HeaderMap, String) {
    let answer = api.send(request);
    (answer.status, answer.headers, answer.body)
}

/// Bad requests: URL, code, reason it is counted under, part of the message.
fn bad_requests() -> [(String, u16, &'static str, &'static str); 18] {
    let metric = format!("{V2}/namespaces/prod/pods/*/appmesh_requests_per_second");
    let long = format!("{metric}?labelSelector={}", "a".repeat(URL_BYTES_MAX));
    [
        (
            format!("{V2}/namespaces/prod/pods/*/cpu"),
            404,
            "unknown_metric",
            "the metric cpu for pods; known metrics: appmesh_error_ratio, ",
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
            format!("{V2}/namespaces/prod/ingresses.networking.k8s.io/web/m"),
            404,
            "path",
            "the metric m for ingresses.networking.k8s.io: metrics are served for pods, namespaces, services, ",
        ),
        (
            format!("{V2}/namespaces/prod/services/*/m"),
            400,
            "path",
            "only pods can be asked for together, by pods/*; name one of the services instead",
        ),
        (
            format!("{V2}/namespaces/prod/deployments.apps/Web/m"),
            400,
            "path",
            "workload name \"Web\"",
        ),
        (
            format!("{V2}/namespaces/prod/namespaces/test/m"),
            400,
            "path",
            "the namespace prod does not hold the namespace test",
        ),
        (
            format!("{EXTERNAL}/namespaces/Prod/m"),
            400,
            "path",
            "namespace \"Prod\"",
        ),
        (
            "/openapi/v2".to_owned(),
            404,
            "path",
            "could not find the requested resource: /openapi/v2",
        ),
        (long, 414, "url_length", "at most 8192 are allowed"),
        (
            format!("{metric}?watch=true"),
            405,
            "query",
            "watch is not supported on resources of kind \"pods.custom.metrics.k8s.io\"",
        ),
        (
            format!("{metric}?labelSelector=app%3Da&watch"),
            405,
            "query",
            "watch is not supported",
        ),
        (
            format!("{EXTERNAL}/namespaces/prod/m?watch=1"),
            405,
            "query",
            "watch is not supported on resources of kind \"m.external.metrics.k8s.io\"",
        ),
        (
            "//apis".to_owned(),
            404,
            "path",
            "could not find the requested resource: //apis",
        ),
    ]
}

/// Every refusal is a Status that names the thing, and is counted under its reason.
#[test]
fn refuses_with_a_status_and_a_count() {
    for (uri, code, reason, message) in bad_requests() {
        let api = TestApi::new();
        let (status, headers, body) = send(&api, get(&uri));
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
        assert_eq!(api.refused(reason), 1, "{uri}");
    }
}

/// Only GET, without a body, with headers of a bounded size.
#[test]
fn refuses_other_methods_bodies_and_large_heads() {
    let api = TestApi::new();
    let post = Request::post("/apis").body(()).unwrap();
    let (status, headers, body) = send(&api, post);
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(headers["allow"], "GET");
    assert!(body.contains("the method POST is not supported"), "{body}");
    assert_eq!(api.refused("method"), 1);

    let (parts, ()) = get("/apis").into_parts();
    assert_eq!(
        api.api.respond(&parts, true).status(),
        StatusCode::BAD_REQUEST
    );
    assert_eq!(api.refused("body"), 1);

    let mut large = get("/apis");
    let value = HeaderValue::from_str(&"v".repeat(HEADER_BYTES_MAX)).unwrap();
    large.headers_mut().insert("x-remote-group", value);
    let (status, _, body) = send(&api, large);
    assert_eq!(status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    assert!(body.contains("1 header lines with"), "{body}");
    let mut many = get("/apis");
    for _ in 0..=HEADERS_MAX {
        many.headers_mut()
            .append("x-remote-group", HeaderValue::from_static("g"));
    }
    assert_eq!(
        send(&api, many).0,
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
    );
    assert_eq!(api.refused("header_size"), 2);
}

/// JSON goes to whoever can read it; to protobuf alone the answer is 406.
#[test]
fn answers_json_or_says_so() {
    let api = TestApi::new();
    let mut request = get(V2);
    let protobuf = HeaderValue::from_static("application/vnd.kubernetes.protobuf");
    request.headers_mut().insert(ACCEPT, protobuf);
    assert_eq!(send(&api, request).0, StatusCode::NOT_ACCEPTABLE);
    assert_eq!(api.refused("accept"), 1);
    let mut request = get(V2);
    let controller = HeaderValue::from_static("application/vnd.kubernetes.protobuf, */*");
    request.headers_mut().insert(ACCEPT, controller);
    let (status, headers, _) = send(&api, request);
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers[CONTENT_TYPE], "application/json");
}

/// Aggregated discovery goes to clients that ask for it, with a tag; who has the tag gets 304.
#[test]
fn serves_aggregated_discovery_with_a_tag() {
    let api = TestApi::new();
    let mut request = get("/apis");
    let accept =
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    request
        .headers_mut()
        .insert(ACCEPT, HeaderValue::from_static(accept));
    let (status, headers, body) = send(&api, request.clone());
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers[CONTENT_TYPE], AGGREGATED);
    assert_eq!(headers[VARY], "Accept");
    assert!(body.contains("APIGroupDiscoveryList"));
    request
        .headers_mut()
        .insert(IF_NONE_MATCH, headers[ETAG].clone());
    let (status, again, body) = send(&api, request);
    assert_eq!((status, body.as_str()), (StatusCode::NOT_MODIFIED, ""));
    assert_eq!(again[ETAG], headers[ETAG]);
    let (_, plain, body) = send(&api, get("/apis"));
    assert_ne!(plain[ETAG], headers[ETAG]);
    assert!(body.contains("APIGroupList"));
}

/// Alive from the start, ready only when the checks say so; discovery does not wait for that.
#[test]
fn tells_alive_from_ready() {
    let api = TestApi::new();
    for path in [
        "/healthz",
        "/livez/",
        V2,
        // Discovery is no list of objects.
        "/apis?watch=true",
        "/version/",
        "/api",
        "/",
        "/apis/custom.metrics.k8s.io",
        "/apis/external.metrics.k8s.io",
        EXTERNAL,
    ] {
        assert_eq!(send(&api, get(path)).0, StatusCode::OK, "{path}");
    }
    let (status, _, body) = send(&api, get("/readyz"));
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(
        body,
        "[-]settled failed: 2000 ms to go\nreadyz check failed\n"
    );
    assert_eq!(send(&api, get("/readyz?exclude=settled")).0, StatusCode::OK);
    assert_eq!(send(&api, get("/readyz/nothing")).0, StatusCode::NOT_FOUND);
}

/// One URL that means something, and pieces that URLs are made of.
const PIECES: [&str; 26] = [
    V2,
    EXTERNAL,
    "/apis/custom.metrics.k8s.io/v1beta1",
    "/namespaces/prod",
    "/namespaces",
    "/pods/*",
    "/pods/%2A",
    "/pods/jazz-a",
    "/services/jazz",
    "/deployments.apps/jazz",
    "/replicasets.apps/jazz-1",
    "/metrics",
    "/reads",
    "/appmesh_requests_per_second",
    "/appmesh_error_ratio",
    "/appmesh_inflight_requests",
    "?labelSelector=",
    "?metricLabelSelector=",
    "&labelSelector=",
    "app%3Djazz",
    "deployment%3Djazz",
    "%2Cwindow%3D5s",
    "window%3D60s",
    "%2C",
    "+in+%28a%2Cb%29",
    "%FF",
];

proptest::proptest! {
    /// Whatever is asked, the answer is JSON or text, says no with a status that fits, and holds no
    /// value that an autoscaler would misread: none is negative, and each is a canonical quantity.
    #[test]
    fn survives_any_url(pieces in proptest::collection::vec(0..PIECES.len(), 1..9), noise in "[!-~]{0,6}") {
        let api = TestApi::new();
        api.deployment("jazz");
        api.service("jazz", &[("app", "jazz")]);
        api.reports(running("jazz", "jazz-a"), vec![inbound(3)]);
        let url: String = pieces.iter().map(|piece| PIECES[*piece]).chain([noise.as_str()]).collect();
        let url = if url.starts_with('/') { url } else { format!("/{url}") };
        let Ok(request) = Request::get(&url).body(()) else {
            return Ok(());
        };
        let answer = api.send(request);
        let known = [200, 304, 400, 404, 414, 500, 503].contains(&answer.status.as_u16());
        proptest::prop_assert!(known, "{url}: {}", answer.status);
        if answer.headers[CONTENT_TYPE] != "application/json" {
            return Ok(());
        }
        let json: Value = serde_json::from_str(&answer.body).unwrap();
        let is_value_list = json["kind"].as_str().is_some_and(|kind| kind.ends_with("MetricValueList"));
        if !is_value_list {
            return Ok(());
        }
        for item in json["items"].as_array().unwrap() {
            let value = item["value"].as_str().unwrap();
            let digits = value.trim_end_matches(['m', 'k', 'M', 'G', 'T', 'P']);
            proptest::prop_assert!(digits.parse::<u64>().is_ok(), "{url}: {value}");
        }
    }
}
