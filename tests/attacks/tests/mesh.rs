//! The control plane and the xDS proxy at their shipped limits of memory.
#![expect(clippy::print_stdout, reason = "what was measured belongs in the log")]

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
use mesh_core::discovery::{CLUSTER, LISTENER};
use mesh_core::wire::delimited;
use prost::Message as _;
use tempfile::TempDir;
use tests_attacks::caged::Caged;
use tests_attacks::flood::{self, Call};
use tests_attacks::heads::{self, Endless};
use tests_attacks::probes::PATIENCE;
use tests_attacks::target::{HTTP2, Target};
use tests_attacks::well_behaved::WellBehaved;
use tests_mesh::grpc;
use tests_mesh::manifests;
use tests_support::stopwatch::{Summary, Times};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

const MIB: usize = 1 << 20;
/// As `deploy/chart/values.yaml` says.
const CONTROL_PLANE: u64 = 256 << 20;
/// As the injector writes into pods.
const XDS_PROXY: u64 = 64 << 20;
const STREAM: Call = Call::grpc(grpc::STREAM);
/// How long an Envoy that starts may wait for its clusters, and how often one starts.
const CLUSTERS_WITHIN: Duration = Duration::from_secs(2);
const CONNECTS_EVERY: Duration = Duration::from_millis(300);
const SLOW_FOR: Duration = Duration::from_secs(4);

const MANAGER: &str = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/// A listener with a connection manager of so many bytes.
fn listener(bytes: usize) -> Vec<u8> {
    let fields = |fields: &[(u32, &[u8])]| {
        let mut message = Vec::new();
        for (number, content) in fields {
            delimited(&mut message, *number, content);
        }
        message
    };
    let router = fields(&[(1, b"envoy.filters.http.router")]);
    let manager = fields(&[(2, &vec![b'x'; bytes]), (5, &router)]);
    let any = fields(&[(1, MANAGER.as_bytes()), (2, &manager)]);
    let chain = fields(&[(3, &fields(&[(1, b"manager"), (4, &any)]))]);
    fields(&[(1, b"lds_ingress_0.0.0.0_15000"), (3, &chain)])
}

/// Prints how large it was, unless it has ended.
fn report(program: &mut Caged, what: &str) -> Result<()> {
    let peak = program.check(what)?;
    println!("{what}: peak {} MiB", peak >> 20);
    Ok(())
}

/// An Envoy of djapp that connects again and again until `stop`, and each time is told its
/// clusters.
async fn envoy(pid: u32, xds: SocketAddr, stop: CancellationToken) -> Result<Summary> {
    let mut times = Times::new(pid, CLUSTERS_WITHIN);
    while !stop.is_cancelled() {
        let lap = times.begin();
        let told = timeout(PATIENCE, clusters(xds)).await;
        let told = told.context("no answer")??;
        times.end(&lap);
        ensure!(told > 1, "{told} clusters");
        sleep(CONNECTS_EVERY).await;
    }
    times.judge("clusters")
}

async fn clusters(xds: SocketAddr) -> Result<usize> {
    let (requests, mut responses) = grpc::open(xds).await?;
    let mut request = grpc::request(CLUSTER);
    let id = format!("mesh/dj-app/virtualNode/dj_{}", tests_mesh::NAMESPACE);
    request.node = Some(Node {
        cluster: id.clone(),
        id,
        ..Node::default()
    });
    requests.send(request.encode_to_vec().into()).await?;
    let response = grpc::next(&mut responses).await?;
    Ok(DiscoveryResponse::decode(response)?.resources.len())
}

/// Half-sent requests, streams that say nothing and heads without an end do not take the control
/// plane's memory, nor an Envoy's answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_plane_holds_out() -> Result<()> {
    let folder = TempDir::new()?;
    let manifests = folder.path().join("manifests");
    fs::create_dir(&manifests)?;
    fs::write(manifests.join("djapp.yaml"), manifests::djapp((1, 1)))?;
    let endpoints = folder.path().join("endpoints.yaml");
    let none: Vec<SocketAddr> = Vec::new();
    let nodes = ["dj", "jazz-v1", "jazz-v2", "metal-v1", "metal-v2"];
    let nodes = nodes.map(|node| (format!("{}/{node}", tests_mesh::NAMESPACE), none.clone()));
    fs::write(&endpoints, serde_json::to_string(&BTreeMap::from(nodes))?)?;
    let arguments = [
        "control-plane".to_owned(),
        format!("--manifests={}", manifests.display()),
        format!("--endpoints-file={}", endpoints.display()),
    ];
    let mut control_plane = Caged::start(CONTROL_PLANE, folder, "xds", &arguments).await?;
    control_plane.wait_ready().await?;
    let (pid, xds) = (control_plane.pid()?, control_plane.port);
    let served = WellBehaved::start((pid, control_plane.admin), move |stop| {
        envoy(pid, xds, stop)
    })?;
    let target = Target::plain(xds).attacked_from(1);
    let held = flood::half_messages(&target, STREAM, 60, 1, 4 * MIB).await;
    report(&mut control_plane, "60 half-sent messages of 4 MiB")?;
    drop(held);
    let held = flood::half_messages(&target, STREAM, 120, 1, MIB - 64).await;
    report(&mut control_plane, "120 half-sent messages of 1 MiB")?;
    drop(held);
    let held = flood::empty_streams(&target, STREAM, 100, 32).await;
    report(&mut control_plane, "3,200 empty streams")?;
    drop(held);
    let held = heads::huge(&target, Endless::http2(), 100, 16 * MIB).await;
    report(&mut control_plane, "100 endless heads")?;
    ensure!(held.refused == 100, "{} are closed", held.refused);
    let held = heads::slow(&target, HTTP2, 100, SLOW_FOR).await;
    report(&mut control_plane, "100 slow heads")?;
    drop(held);
    println!("{:?}", served.finish()?);
    Ok(())
}

/// A listener that is larger than may be changed passes as it is, a still larger one is refused
/// with a word that helps, and the xDS proxy goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_xds_proxy_lets_large_responses_pass() -> Result<()> {
    let sizes = [7_000_000, 10_500_000, 30_000_000];
    let answers = sizes.map(|bytes| grpc::response(LISTENER, "1", &[listener(bytes)]));
    let [changes, passes, too_large] = answers;
    let sent = [changes.clone(), passes.clone(), too_large];
    let control_plane = grpc::ControlPlane::start(
        None,
        Arc::new(move |request| {
            let names = ["changes", "passes", "too-large"];
            let asks = |name: &str| {
                request
                    .windows(name.len())
                    .any(|part| part == name.as_bytes())
            };
            let asked = names.into_iter().zip(&sent).filter(|(name, _)| asks(name));
            asked.map(|(_, response)| response.clone()).collect()
        }),
    )
    .await?;
    let folder = TempDir::new()?;
    let wasm = folder.path().join("filter.wasm");
    fs::write(&wasm, b"\0asm\x01\0\0\0")?;
    let arguments = [
        "xds-proxy".to_owned(),
        format!("--upstream=http://{}", control_plane.address),
        format!("--filter-wasm={}", wasm.display()),
        "--aggregator=127.0.0.1:1".to_owned(),
    ];
    let mut xds_proxy = Caged::start(XDS_PROXY, folder, "xds", &arguments).await?;
    report(&mut xds_proxy, "at the start")?;
    let (requests, mut responses) = grpc::open(xds_proxy.port).await?;
    let ask = async |name: &str| {
        let mut request = grpc::request(LISTENER);
        request.resource_names = vec![name.to_owned()];
        requests.send(request.encode_to_vec().into()).await
    };
    for nth in 1..=4 {
        ask("changes").await?;
        let got = grpc::next(&mut responses).await?;
        ensure!(got.len() > changes.len(), "nothing was inserted");
        report(&mut xds_proxy, &format!("response {nth} of 7 MB, changed"))?;
    }
    for nth in 1..=4 {
        ask("passes").await?;
        let got = grpc::next(&mut responses).await?;
        ensure!(got == passes, "the response is another");
        report(
            &mut xds_proxy,
            &format!("response {nth} of 10.5 MB, unread"),
        )?;
    }
    let name = "meshmeter_mesh_xds_proxy_responses_unread_total";
    ensure!(xds_proxy.metric(name).await? > 3.5, "not counted");
    ask("too-large").await?;
    let refused = grpc::next(&mut responses)
        .await
        .expect_err("it is too large");
    report(&mut xds_proxy, "a response of 30 MB")?;
    let text = format!("{refused:#}");
    ensure!(
        text.contains("--memory-limit") && text.contains("30000"),
        "{text}"
    );
    Ok(())
}
