//! The xDS proxy's program between a control plane and an Envoy that are both the test's own: what
//! passes, byte for byte.
#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;
use envoy_types::pb::google::rpc::Status;
use mesh_core::discovery::{self, CLUSTER, Form, LISTENER, Response};
use prost::Message as _;
use tests_mesh::configuration::bytes_of;
use tests_mesh::grpc::{self, Answer, ControlPlane};
use tests_mesh::{Modules, XdsProxy};
use tests_support::clock;
use tests_support::kubernetes::ApiServer;
use tests_support::kubernetes::objects::EVENT;

const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
/// Stands for a private key.
const MARKER: &str = "MARKER-of-a-private-key";
const PATIENCE: Duration = Duration::from_secs(30);

fn state(response: &[u8]) -> Response<'_> {
    Response::parse(response, Form::StateOfTheWorld).unwrap()
}

/// Answers each first request of a type with one response of that type.
fn answering(resources: Vec<(&'static str, Vec<Vec<u8>>)>) -> Answer {
    Arc::new(move |request| {
        let head = discovery::request_head(request, Form::StateOfTheWorld).unwrap();
        let asked = resources
            .iter()
            .filter(|(kind, _)| *kind == head.type_url && head.nonce.is_empty());
        asked
            .map(|(kind, resources)| grpc::response(kind, "control-plane-1", resources))
            .collect()
    })
}

fn flags(control_plane: &ControlPlane) -> Vec<String> {
    let modules = Modules::built().unwrap();
    vec![
        format!("--upstream=http://{}", control_plane.address),
        format!("--filter-wasm={}", modules.filter.display()),
        "--aggregator=127.0.0.1:9".to_owned(),
        "--pod-namespace=prod".to_owned(),
        "--pod-name=jazz-1".to_owned(),
        "--pod-uid=uid-1".to_owned(),
    ]
}

fn refusal(nonce: String) -> Bytes {
    let refusal = DiscoveryRequest {
        response_nonce: nonce,
        error_detail: Some(Status {
            message: "no V8 here".to_owned(),
            ..Status::default()
        }),
        ..grpc::request(LISTENER)
    };
    refusal.encode_to_vec().into()
}

async fn listener() -> Vec<u8> {
    let listener = serde_json::json!({
        "@type": LISTENER,
        "name": "lds_ingress_0.0.0.0_15000",
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": "ingress",
                "http_filters": [{"name": "envoy.filters.http.router"}],
            },
        }]}],
    });
    bytes_of(&[listener]).await.unwrap().remove(0)
}

/// As large as a request may be, and a response far beyond gRPC's own limit of 4 MiB: not a byte is
/// another.
#[tokio::test(flavor = "multi_thread")]
async fn large_messages_pass() {
    let large: Vec<u8> = (0..20_000_000_u32).map(|at| at.to_le_bytes()[1]).collect();
    let sent = grpc::response(SECRET, "control-plane-1", &[large]);
    let answer = sent.clone();
    let control_plane = ControlPlane::start(None, Arc::new(move |_| vec![answer.clone()]))
        .await
        .unwrap();
    let xds_proxy = XdsProxy::spawn(flags(&control_plane), &[]).await.unwrap();
    let (requests, mut responses) = grpc::open(xds_proxy.xds).await.unwrap();
    let request = DiscoveryRequest {
        node: Some(Node {
            id: "x".repeat(4_100_000),
            ..Node::default()
        }),
        ..grpc::request(SECRET)
    };
    let request = Bytes::from(request.encode_to_vec());
    requests.send(request.clone()).await.unwrap();
    let got = grpc::next(&mut responses).await.unwrap();
    assert!(got == sent, "the response is another");
    assert!(
        control_plane.requests() == [request],
        "the request is another"
    );
}

/// What cannot be read is not ours to judge: it goes on as it is, and is counted. So does what only
/// a listener of it cannot be read, beside those that can.
#[tokio::test(flavor = "multi_thread")]
async fn malformed_bytes_pass_untouched() {
    let noise = Bytes::from_static(&[0x0b, 0xff, 0x01, 0x02]);
    let bad = vec![0x1a, 0x05, 0x01];
    let half = grpc::response(LISTENER, "2", &[bad.clone(), listener().await]);
    let answers = vec![noise.clone(), half.clone()];
    let control_plane = ControlPlane::start(None, Arc::new(move |_| answers.clone()))
        .await
        .unwrap();
    let xds_proxy = XdsProxy::spawn(flags(&control_plane), &[]).await.unwrap();
    let (requests, mut responses) = grpc::open(xds_proxy.xds).await.unwrap();
    let garbled = Bytes::from_static(b"\x0a\xff garbled");
    requests.send(garbled.clone()).await.unwrap();
    assert_eq!(grpc::next(&mut responses).await.unwrap(), noise);
    let passed = grpc::next(&mut responses).await.unwrap();
    let resources = state(&passed).contents().unwrap();
    let before = state(&half).contents().unwrap();
    assert_eq!(resources[0], before[0], "the one that cannot be read");
    assert!(resources[1].len() > before[1].len(), "nothing was inserted");
    assert_eq!(control_plane.requests(), [garbled]);
    let malformed = xds_proxy.metric("resources_malformed_total").await.unwrap();
    assert!((malformed - 2.0).abs() < 0.5, "{malformed}");
}

/// Keys pass through, and nothing of them is in the log.
#[tokio::test(flavor = "multi_thread")]
async fn contents_are_never_logged() {
    let secret = grpc::response(SECRET, "1", &[MARKER.as_bytes().to_vec()]);
    let noise = Bytes::from([b"\x0b".as_slice(), MARKER.as_bytes()].concat());
    let bad = [b"\x1a\x7f".as_slice(), MARKER.as_bytes()].concat();
    let answers = vec![
        secret.clone(),
        noise,
        grpc::response(LISTENER, "2", &[bad]),
        grpc::response(CLUSTER, "3", &[MARKER.as_bytes().to_vec()]),
    ];
    let control_plane = ControlPlane::start(None, Arc::new(move |_| answers.clone()))
        .await
        .unwrap();
    let mut xds_proxy = XdsProxy::spawn(flags(&control_plane), &[]).await.unwrap();
    let (requests, mut responses) = grpc::open(xds_proxy.xds).await.unwrap();
    requests.send(Bytes::from(MARKER.as_bytes())).await.unwrap();
    assert_eq!(grpc::next(&mut responses).await.unwrap(), secret);
    for _ in 0..3 {
        grpc::next(&mut responses).await.unwrap();
    }
    drop((requests, responses));
    xds_proxy.terminate().await.unwrap();
    let log = xds_proxy.log();
    assert!(log.contains("listening"), "{log}");
    assert!(!log.contains(MARKER), "{log}");
}

/// A control plane that has nothing new of the first type does not even take the stream before
/// another one is asked for: the question has to get there.
#[tokio::test(flavor = "multi_thread")]
async fn an_control_plane_may_be_silent() {
    let control_plane =
        ControlPlane::start(None, answering(vec![(LISTENER, vec![listener().await])]))
            .await
            .unwrap();
    let xds_proxy = XdsProxy::spawn(flags(&control_plane), &[]).await.unwrap();
    let (requests, mut responses) = grpc::open(xds_proxy.xds).await.unwrap();
    for type_url in [CLUSTER, LISTENER] {
        requests
            .send(grpc::request(type_url).encode_to_vec().into())
            .await
            .unwrap();
    }
    let response = grpc::next(&mut responses).await.unwrap();
    assert_eq!(state(&response).type_url(), LISTENER);
}

/// From the refusal's coming in to the original's going out, on the xDS proxy's own clock: of 20,
/// more than half within 10 ms; and the control plane hears of none of them.
#[tokio::test(flavor = "multi_thread")]
async fn the_original_goes_out_at_once() {
    const ROUNDS: u32 = 20;
    let resource = listener().await;
    let sent = resource.clone();
    let control_plane = ControlPlane::start(
        None,
        Arc::new(move |request| {
            let head = discovery::request_head(request, Form::StateOfTheWorld).unwrap();
            // Each answer brings the next one, which is another.
            let next: u32 = head.nonce.parse().map_or(0, |nonce: u32| nonce + 1);
            let name = format!("\x0a\x0aother_{next:04}");
            let other = [resource.as_slice(), name.as_bytes()].concat();
            vec![grpc::response(
                LISTENER,
                &next.to_string(),
                &[resource.clone(), other],
            )]
        }),
    )
    .await
    .unwrap();
    let xds_proxy = XdsProxy::spawn(flags(&control_plane), &[]).await.unwrap();
    let (requests, mut responses) = grpc::open(xds_proxy.xds).await.unwrap();
    requests
        .send(grpc::request(LISTENER).encode_to_vec().into())
        .await
        .unwrap();
    for _ in 0..ROUNDS {
        let changed = grpc::next(&mut responses).await.unwrap();
        let nonce = state(&changed).nonce().to_owned();
        requests.send(refusal(nonce)).await.unwrap();
        let original = grpc::next(&mut responses).await.unwrap();
        let read = state(&original);
        let nonce = read.nonce().to_owned();
        assert!(nonce.starts_with("meshmeter-"), "{nonce}");
        let first = read.contents().unwrap()[0];
        assert!(first.ends_with(&sent), "it is not the original");
        let accepted = DiscoveryRequest {
            response_nonce: nonce,
            ..grpc::request(LISTENER)
        };
        requests
            .send(accepted.encode_to_vec().into())
            .await
            .unwrap();
    }
    for request in control_plane.requests() {
        let head = discovery::request_head(&request, Form::StateOfTheWorld).unwrap();
        assert_eq!(
            head.rejection, None,
            "the control plane hears of a refusal that is not its own"
        );
        assert!(!head.nonce.starts_with("meshmeter-"), "{}", head.nonce);
    }
    let count = xds_proxy.metric("restore_seconds_count").await.unwrap();
    let within = xds_proxy
        .metric("restore_seconds_bucket{le=\"0.01\"}")
        .await
        .unwrap();
    assert!((count - f64::from(ROUNDS)).abs() < 0.5, "{count}");
    assert!(
        within > f64::from(ROUNDS) / 2.0,
        "{within} of {count} within 10 ms"
    );
}

/// Ready once both were tried. A control plane that is away holds nobody: the containers behind it
/// start, and Envoy has its configuration when it comes back.
#[tokio::test(flavor = "multi_thread")]
async fn it_is_ready_without_the_control_plane_too() {
    let control_plane = ControlPlane::start(None, answering(vec![])).await.unwrap();
    let mut away = flags(&control_plane);
    drop(control_plane);
    away.push("--log-wasm=/nowhere/log.wasm".to_owned());
    let xds_proxy = XdsProxy::spawn(away, &[]).await.unwrap();
    clock::wait_for("ready", PATIENCE, async || {
        Ok((xds_proxy.readiness().await?.0 == 200).then_some(()))
    })
    .await
    .unwrap();
    let log = xds_proxy.log();
    assert!(log.contains("control plane unreachable"), "{log}");
    assert!(log.contains("/nowhere/log.wasm"), "{log}");
    let (requests, mut responses) = grpc::open(xds_proxy.xds).await.unwrap();
    // The stream may have ended before it is asked anything.
    let _ = requests
        .send(grpc::request(LISTENER).encode_to_vec().into())
        .await;
    let status = responses.message().await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
}

/// At the start, by the name of the flag.
#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_go_together_is_refused_by_name() {
    let control_plane = ControlPlane::start(None, answering(vec![])).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let empty = empty.display();
    for (more, said) in [
        ("--upstream-auth=sigv4", "needs --upstream https"),
        (
            "--upstream-region=eu-west-1",
            "--upstream-region needs --upstream-auth sigv4",
        ),
        ("--upstream-signing-name=x", "--upstream-signing-name needs"),
        (
            &format!("--upstream-ca-file={empty}"),
            "--upstream-ca-file needs",
        ),
        (
            "--aggregator-server-name=a",
            "--aggregator-server-name needs",
        ),
        (
            "--aggregator-token-file=/a",
            "--aggregator-token-file needs",
        ),
        (
            &format!("--aggregator-ca-file={empty}"),
            "holds no certificate",
        ),
        ("--aggregator-ca=nonsense", "--aggregator-ca"),
        ("--role=access-log", "--role access-log needs --log-wasm"),
        ("--kubeconfig=/a", "--events"),
    ] {
        let mut flags = flags(&control_plane);
        flags.push(more.to_owned());
        let error = XdsProxy::spawn(flags, &[]).await.unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains(said), "{more}: {error}");
    }
    let theirs = "--upstream=https://appmesh-envoy-management.eu-west-1.amazonaws.com:443";
    let mut flags = flags(&control_plane);
    flags[0] = theirs.to_owned();
    flags.push("--upstream-region=us-east-1".to_owned());
    let error = XdsProxy::spawn(flags, &[]).await.unwrap_err();
    assert!(
        format!("{error:#}").contains("is in \"eu-west-1\""),
        "{error:#}"
    );
}

/// A cluster that takes events, a control plane with a listener, and the flags of an xDS proxy
/// between.
struct Told {
    server: ApiServer,
    control_plane: ControlPlane,
    folder: tempfile::TempDir,
    flags: Vec<String>,
}

impl Told {
    async fn start() -> Self {
        let server = ApiServer::start().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        server.write_kubeconfig(&kubeconfig).unwrap();
        let control_plane =
            ControlPlane::start(None, answering(vec![(LISTENER, vec![listener().await])]))
                .await
                .unwrap();
        let mut flags = flags(&control_plane);
        flags.push("--events".to_owned());
        flags.push(format!("--kubeconfig={}", kubeconfig.display()));
        Self {
            server,
            control_plane,
            folder,
            flags,
        }
    }
}

/// Whoever looks at the pod hears of it; and a cluster that refuses costs a line in the log and a
/// count.
#[tokio::test(flavor = "multi_thread")]
async fn events_are_raised_on_the_pod() {
    let Told {
        server,
        control_plane: _control_plane,
        folder: _folder,
        mut flags,
    } = Told::start().await;
    flags[1] = "--filter-wasm=/nowhere/filter.wasm".to_owned();
    for (outage, counted) in [
        (None, "events_raised_total"),
        (Some(http::StatusCode::FORBIDDEN), "events_failed_total"),
    ] {
        server.set_outage(outage);
        let xds_proxy = XdsProxy::spawn(flags.clone(), &[]).await.unwrap();
        let (requests, mut responses) = grpc::open(xds_proxy.xds).await.unwrap();
        requests
            .send(grpc::request(LISTENER).encode_to_vec().into())
            .await
            .unwrap();
        grpc::next(&mut responses).await.unwrap();
        clock::wait_for(counted, PATIENCE, async || {
            Ok((xds_proxy.metric(counted).await? > 0.5).then_some(()))
        })
        .await
        .unwrap();
    }
    let (_, events) = server.objects().list(EVENT, "prod");
    let event = events.first().unwrap();
    assert_eq!(event["involvedObject"]["name"], "jazz-1");
    assert_eq!(event["involvedObject"]["uid"], "uid-1");
    assert_eq!(event["reason"], "MeshmeterNotInserted");
    let message = event["message"].as_str().unwrap();
    assert!(message.contains("/nowhere/filter.wasm"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_is_told_on_the_pod() {
    let Told {
        server,
        control_plane: _control_plane,
        folder: _folder,
        flags,
    } = Told::start().await;
    let xds_proxy = XdsProxy::spawn(flags, &[]).await.unwrap();
    let (requests, mut responses) = grpc::open(xds_proxy.xds).await.unwrap();
    requests
        .send(grpc::request(LISTENER).encode_to_vec().into())
        .await
        .unwrap();
    let response = grpc::next(&mut responses).await.unwrap();
    let nonce = state(&response).nonce().to_owned();
    requests.send(refusal(nonce)).await.unwrap();
    let event = clock::wait_for("an event", PATIENCE, async || {
        Ok(server.objects().list(EVENT, "prod").1.pop())
    })
    .await
    .unwrap();
    assert_eq!(event["reason"], "MeshmeterRejected");
    assert_eq!(event["involvedObject"]["name"], "jazz-1");
    let message = event["message"].as_str().unwrap();
    assert!(message.contains("no V8 here"), "{message}");
}
