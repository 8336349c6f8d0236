use super::*;

const END: UnixMillis = UnixMillis(1_795_457_723_999);

fn item() -> Item<'static> {
    Item {
        object: DescribedObject::pod("prod", "jazz-v1"),
        timestamp: END,
        window: Duration::from_millis(2_400),
        value: "12500m".to_owned(),
    }
}

fn written(version: ApiVersion, selector: &str, items: &[Item<'_>]) -> String {
    let selector = Selector::parse(selector).unwrap();
    let bytes = write(version, "appmesh_requests_per_second", &selector, items).unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Byte for byte what Go's types would print: order of keys, null selector, truncated timestamp.
#[test]
fn writes_v1beta2() {
    assert_eq!(
        written(ApiVersion::V1Beta2, "", &[item()]),
        r#"{"kind":"MetricValueList","apiVersion":"custom.metrics.k8s.io/v1beta2","metadata":{},"#
            .to_owned()
            + r#""items":[{"describedObject":{"kind":"Pod","namespace":"prod","name":"jazz-v1","apiVersion":"v1"},"#
            + r#""metric":{"name":"appmesh_requests_per_second","selector":null},"#
            + r#""timestamp":"2026-11-23T18:15:23Z","windowSeconds":2,"value":"12500m"}]}"#
    );
}

/// v1beta1 differs in three names and in where the selector stands.
#[test]
fn writes_v1beta1() {
    assert_eq!(
        written(
            ApiVersion::V1Beta1,
            "window=15s,direction in (inbound)",
            &[item()]
        ),
        r#"{"kind":"MetricValueList","apiVersion":"custom.metrics.k8s.io/v1beta1","metadata":{},"#
            .to_owned()
            + r#""items":[{"describedObject":{"kind":"Pod","namespace":"prod","name":"jazz-v1","apiVersion":"v1"},"#
            + r#""metricName":"appmesh_requests_per_second","timestamp":"2026-11-23T18:15:23Z","window":2,"#
            + r#""value":"12500m","selector":{"matchLabels":{"window":"15s"},"#
            + r#""matchExpressions":[{"key":"direction","operator":"In","values":["inbound"]}]}}]}"#
    );
}

/// A namespace is an object without a namespace.
#[test]
fn writes_a_namespace() {
    let item = Item {
        object: DescribedObject::namespace("prod"),
        ..item()
    };
    let text = written(ApiVersion::V1Beta2, "", &[item]);
    assert!(
        text.contains(r#""describedObject":{"kind":"Namespace","name":"prod","apiVersion":"v1"}"#),
        "{text}"
    );
}

/// A window is never 0, which would read as "none".
#[test]
fn rounds_windows() {
    for (ms, seconds) in [(0, 1), (999, 1), (1_499, 1), (1_500, 2), (60_000, 60)] {
        assert_eq!(whole_seconds(Duration::from_millis(ms)), seconds, "{ms} ms");
    }
}

/// A time that cannot be written is an error, not another time.
#[test]
fn refuses_impossible_times() {
    let item = Item {
        timestamp: UnixMillis(u64::MAX),
        ..item()
    };
    let error = write(ApiVersion::V1Beta2, "m", &Selector::default(), &[item]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "timestamp out of range: 18446744073709551615 ms"
    );
}
