//! The page as browsers get it.

use http::{Request, StatusCode};
use http_body_util::BodyExt as _;

use crate::authentication::certificate::PeerCertificates;
use crate::testing::{TestApi, inbound, running};

fn fleet() -> TestApi {
    let api = TestApi::new();
    api.deployment("jazz");
    api.reports(running("jazz", "jazz-a"), vec![inbound(20)]);
    api
}

/// Every page has its rates or says what is missing, as HTML, with the headers that protect it.
#[test]
fn pages_are_served() {
    let api = fleet();
    let jazz = "namespaces/prod/page/workload?kind=Deployment&name=jazz";
    for (path, status, shows) in [
        ("page", 200, ">jazz</a>"),
        (
            "namespaces/prod/page",
            200,
            "<td class=\"number\">20.0</td>",
        ),
        ("page/pods", 200, "jazz-a"),
        ("namespaces/prod/page/pods", 200, "jazz-a"),
        ("page/system", 200, "Replicas"),
        (jazz, 200, "<h1>Deployment jazz</h1>"),
        ("page/nothing", 404, "there is no page"),
        ("namespaces/prod/page/system", 404, "there is no page"),
        (
            "namespaces/prod/page/workload?kind=Deployment&name=x",
            404,
            "there is no Deployment x",
        ),
        (
            "namespaces/prod/page/hpa?name=x",
            404,
            "there is no HorizontalPodAutoscaler prod/x",
        ),
        (
            "namespaces/prod/page/hpa?name=x&at=1",
            404,
            "there is no HorizontalPodAutoscaler prod/x",
        ),
        ("page?sort=colour", 400, "the parameter sort cannot be"),
    ] {
        let response = api.view(path);
        assert_eq!(response.status, status, "{path}: {}", response.body);
        assert!(response.body.contains(shows), "{path}: {}", response.body);
        let header = |name: &str| response.headers[name].to_str().unwrap();
        assert_eq!(header("content-type"), "text/html; charset=utf-8");
        assert_eq!(header("cache-control"), "no-store");
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert!(
            header("content-security-policy").starts_with("default-src 'none'; script-src 'self'")
        );
    }
}

/// Script and stylesheet are beside the page, of all namespaces and of each.
#[test]
fn assets_are_beside_the_page() {
    let api = fleet();
    for (path, media_type) in [
        ("page/style.css?v=1", "text/css; charset=utf-8"),
        (
            "namespaces/prod/page/live.js",
            "text/javascript; charset=utf-8",
        ),
        ("page/icon.svg", "image/svg+xml"),
    ] {
        let response = api.view(path);
        assert_eq!(response.status, StatusCode::OK, "{path}");
        assert_eq!(response.headers["content-type"], media_type);
        assert!(
            response.headers["cache-control"]
                .to_str()
                .unwrap()
                .contains("immutable")
        );
        assert!(response.headers.contains_key("content-security-policy"));
    }
}

/// A stream begins with all of the page and goes on with what changed: here only the time.
#[tokio::test(start_paused = true)]
async fn updates_are_what_changed() {
    let api = fleet();
    let uri = "/apis/view.meshmeter.io/v1/page/events?view=overview";
    let (parts, ()) = Request::get(uri).body(()).unwrap().into_parts();
    let nobody = PeerCertificates::new(Vec::new());
    let response = api.api.respond_to(parts, false, &nobody).await;
    assert_eq!(
        response.headers()["content-type"],
        "text/event-stream; charset=utf-8"
    );
    assert_eq!(response.headers()["cache-control"], "no-store");
    let mut body = response.into_body();
    let mut next = async || {
        let frame = body.frame().await.unwrap().unwrap();
        String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
    };
    let first = next().await;
    assert!(first.starts_with("retry: 500\n\ndata: {"), "{first}");
    assert!(first.contains("jazz") && first.ends_with("\n\n"), "{first}");
    let second = next().await;
    let nothing = "\"cells\":{},\"fragments\":{}";
    assert!(second.contains(nothing), "{second}");
}

/// What cannot be followed is refused before the stream begins.
#[test]
fn wrong_events_are_refused() {
    let api = fleet();
    for path in ["page/events", "page/events?view=nothing"] {
        let response = api.view(path);
        assert!(
            response.status.is_client_error(),
            "{path}: {}",
            response.body
        );
    }
}
