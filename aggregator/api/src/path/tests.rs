use super::*;

const V2: &str = "/apis/custom.metrics.k8s.io/v1beta2";

fn metric(version: ApiVersion, namespace: &str, object: Object, metric: &str) -> Route {
    Route::Metric(MetricPath {
        version,
        namespace: namespace.to_owned(),
        object,
        metric: metric.to_owned(),
    })
}

/// The URL table of the Go library for such servers, with both spellings of `*`.
#[test]
fn reads_metric_paths() {
    let pod = Object::Pod("web-0".into());
    let service = Object::Service("web".into());
    let workload = Object::Workload(Workload::Deployment, "web.v1".into());
    let long = "job:queue.depth-P95:sum";
    for (path, object, name) in [
        ("pods/%2A/m", Object::Pods, "m"),
        ("pods/*/m", Object::Pods, "m"),
        ("pods/web-0/m", pod, "m"),
        ("namespaces/prod/m", Object::Namespace, "m"),
        ("m", Object::Namespace, "m"),
        ("services/web/m", service, "m"),
        ("deployments.apps/web.v1/m", workload, "m"),
        ("metrics/m", Object::Namespace, "m"),
        ("pods/*/job:queue.depth-P95:sum", Object::Pods, long),
    ] {
        let path = format!("{V2}/namespaces/prod/{path}");
        let expected = metric(ApiVersion::V1Beta2, "prod", object, name);
        assert_eq!(Route::parse(&path).unwrap(), expected, "{path}");
    }
    let old = "/apis/custom.metrics.k8s.io/v1beta1/namespaces/prod/pods/*/m";
    assert_eq!(
        Route::parse(old).unwrap(),
        metric(ApiVersion::V1Beta1, "prod", Object::Pods, "m")
    );
}

/// Discovery, health and the rest.
#[test]
fn reads_other_paths() {
    let health = |endpoint, check: Option<&str>| {
        Route::Health(HealthPath {
            endpoint,
            check: check.map(str::to_owned),
        })
    };
    for (path, expected) in [
        ("/", Route::Root),
        ("/api", Route::LegacyGroups),
        ("/apis", Route::Groups),
        ("/apis/external.metrics.k8s.io", Route::ExternalGroup),
        (
            "/apis/external.metrics.k8s.io/v1beta1",
            Route::ExternalResources,
        ),
        (
            "/apis/external.metrics.k8s.io/v1beta1/namespaces/prod/m",
            Route::External(ExternalPath {
                namespace: "prod".to_owned(),
                metric: "m".to_owned(),
            }),
        ),
        ("/apis/custom.metrics.k8s.io", Route::Group),
        (V2, Route::Resources(ApiVersion::V1Beta2)),
        (
            "/apis/custom.metrics.k8s.io/v1beta1",
            Route::Resources(ApiVersion::V1Beta1),
        ),
        ("/version", Route::Version),
        ("/healthz", health("healthz", None)),
        ("/readyz/settled", health("readyz", Some("settled"))),
    ] {
        assert_eq!(Route::parse(path).unwrap(), expected, "{path}");
    }
}

/// Slashes at the end mean nothing, and an encoded slash is one: as kube-apiserver reads paths.
/// Clients of Python and JavaScript send both.
#[test]
fn reads_paths_as_kube_apiserver_does() {
    for path in [
        "/",
        "/api",
        "/apis",
        "/version",
        "/healthz",
        "/livez",
        "/readyz",
        "/readyz/settled",
        "/openapi/v3",
        "/openapi/v3/apis/custom.metrics.k8s.io/v1beta2",
        "/apis/custom.metrics.k8s.io",
        V2,
        "/apis/custom.metrics.k8s.io/v1beta2/namespaces/prod/pods/*/m",
        "/apis/view.meshmeter.io/v1/namespaces/prod/reads",
        "/apis/external.metrics.k8s.io",
        "/apis/external.metrics.k8s.io/v1beta1",
        "/apis/external.metrics.k8s.io/v1beta1/namespaces/prod/m",
    ] {
        let plain = Route::parse(path).unwrap();
        for end in ["/", "//", "%2F"] {
            let other = format!("{path}{end}");
            assert_eq!(Route::parse(&other).as_ref(), Ok(&plain), "{other}");
        }
    }
    let (whole, segment) = (
        "/namespaces/prod/pods/*/m",
        "/namespaces/prod/pods%2F%2A%2Fm",
    );
    assert_eq!(
        Route::parse(&format!("{V2}{segment}")),
        Route::parse(&format!("{V2}{whole}"))
    );
}

/// What means nothing is an error that shows what was asked.
#[test]
fn refuses_other_paths() {
    for path in [
        "",
        "nothing",
        "//apis",
        "/apis//custom.metrics.k8s.io",
        "/apis/custom.metrics.k8s.io/v1beta2/namespaces/prod/pods/*/",
        "/apis/custom.metrics.k8s.io/v1beta2/namespaces/prod/pods/*/a%2Fb",
        "/apis/custom.metrics.k8s.io/v1beta2/watch/namespaces/prod/pods/*/m",
        "/apis/other.io",
        "/apis/custom.metrics.k8s.io/v2",
        "/apis/custom.metrics.k8s.io/v1beta2/namespaces",
        "/apis/custom.metrics.k8s.io/v1beta2/namespaces/prod/pods",
        "/apis/custom.metrics.k8s.io/v1beta2/namespaces/prod/pods/bar",
        "/apis/custom.metrics.k8s.io/v1beta2/namespaces/prod/pods/bar/m/more",
        "/readyz/a/b",
        "/a/b/c/d/e/f/g/h/i",
    ] {
        assert_eq!(
            Route::parse(path),
            Err(PathError::Unknown(path.to_owned())),
            "{path}"
        );
    }
    for path in [
        "/namespaces/prod/ingresses.networking.k8s.io/web/m",
        "/nodes/n1/m",
    ] {
        let error = Route::parse(&format!("{V2}{path}")).unwrap_err();
        assert!(
            matches!(error, PathError::Resource { .. }),
            "{path}: {error}"
        );
    }
}

/// A name no object can have is refused before anything looks it up, and the error names it.
#[test]
fn refuses_impossible_names() {
    let long = "n".repeat(64);
    for (path, what) in [
        ("Prod/pods/*/m", "namespace \"Prod\""),
        (&format!("{long}/pods/*/m"), "namespace \"nnnn"),
        ("/pods/*/m", "namespace \"\""),
        ("prod/pods/-a/m", "pod name \"-a\""),
        ("prod/pods/a..b/m", "pod name \"a..b\""),
        ("prod/pods/%2A%2A/m", "pod name \"**\""),
        ("prod/pods/*/a%0Ab", "metric name \"a?b\""),
        ("prod/pods/*/a%25b", "metric name \"a%b\""),
    ] {
        let error = Route::parse(&format!("{V2}/namespaces/{path}")).unwrap_err();
        assert!(error.to_string().starts_with(what), "{path}: {error}");
        assert!(matches!(error, PathError::Name { .. }), "{path}: {error}");
    }
    let error = Route::parse(&format!("{V2}/namespaces/%zz/pods/*/m")).unwrap_err();
    assert!(error.to_string().contains("\"%zz\""), "{error}");
}

/// No input makes the parser panic, and an error never repeats more than a screen line or two of
/// it.
#[test]
fn survives_any_path() {
    proptest::proptest!(|(path in "/?(apis|(custom|external)\\.metrics\\.k8s\\.io|v1beta[12]|namespaces|pods|deployments\\.apps|/|%2A|%|\\PC){0,60}")| {
        if let Err(error) = Route::parse(&path) {
            assert!(error.to_string().chars().count() < 1000);
        }
    });
}

/// Paths of what people see, and where reads of metrics were before.
#[test]
fn reads_view_paths() {
    let parse = |path: &str| Route::parse(&format!("/apis/view.meshmeter.io/v1{path}"));
    let list = |resource, namespace: &str| {
        let namespace = (!namespace.is_empty()).then(|| namespace.to_owned());
        Route::View(ViewPath::List {
            resource,
            namespace,
        })
    };
    for (path, expected) in [
        ("", Route::ViewResources),
        ("/pods", list(ListResource::Pods, "")),
        ("/namespaces", list(ListResource::Namespaces, "")),
        ("/namespaces/prod", list(ListResource::Namespaces, "prod")),
        (
            "/namespaces/prod/services",
            list(ListResource::Services, "prod"),
        ),
        ("/health", Route::View(ViewPath::Health)),
    ] {
        assert_eq!(parse(path), Ok(expected), "{path}");
    }
    for path in [
        "/nodes",
        "/reads",
        "/namespaces/prod/namespaces",
        "/namespaces/prod/explanations",
        "/pods/a",
    ] {
        assert!(matches!(parse(path), Err(PathError::Unknown(_))), "{path}");
    }
    let wrong = parse("/namespaces/prod/timelines/A")
        .unwrap_err()
        .to_string();
    assert!(
        wrong.starts_with("name of an autoscaler \"A\" is not valid"),
        "{wrong}"
    );
    let moved = Route::parse(&format!("{V2}/namespaces/prod/reads")).unwrap_err();
    assert!(
        moved
            .to_string()
            .ends_with("/apis/view.meshmeter.io/v1/namespaces/prod/reads")
    );
}
